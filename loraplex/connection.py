"""Which gateway a command speaks to, and with which key: flag, environment, or this machine's."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from loraplex.client.clients import DEFAULT_URL, Client, is_loopback
from loraplex.client.errors import InvalidKey, NotAGateway, Unreachable
from loraplex.errors import CommandError, LoraplexError, UsageError

_ABOUT_THE_MACHINE = ("LORAPLEX_CACHE_DIR", "LORAPLEX_DTYPE", "LORAPLEX_ENGINE_ARGS")

Url = Annotated[
    str | None,
    typer.Option("--url", help=f"The gateway; else LORAPLEX_URL, else {DEFAULT_URL}."),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        help="The key; else LORAPLEX_KEY; else, for a gateway on this machine, its admin key.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@dataclass(frozen=True)
class Connection:
    """A gateway's address, the key for it, and in words where the key came from."""

    url: str
    key: str | None = field(repr=False)
    key_source: str


def gateway_connection(url: str | None, key: str | None) -> Connection:
    """The gateway that flags, environment and this machine name."""
    return find_connection(url, key, os.environ)


@contextmanager
def connect(url: str | None, key: str | None) -> Iterator[Client]:
    """A client for the gateway that flags, environment and this machine name."""
    with client_of(gateway_connection(url, key)) as client:
        yield client


@contextmanager
def client_of(connection: Connection) -> Iterator[Client]:
    """A client whose errors become the command's."""
    try:
        with Client(connection.url, connection.key) as client:
            yield client
    except LoraplexError as error:
        raise CommandError(_in_words(error, connection)) from error


def _in_words(error: LoraplexError, connection: Connection) -> str:
    """The error's message, with what a person at a terminal can do about it."""
    if isinstance(error, InvalidKey):
        ways = "pass --key or set LORAPLEX_KEY"
        if connection.key is None:
            return f"this needs a key, and there is none in {connection.key_source}; {ways}"
        source = f"{connection.url} does not know the key from {connection.key_source}"
        return f"{source}; {ways} to use another"
    if isinstance(error, Unreachable):
        return f"{error.message} --url or LORAPLEX_URL names another gateway"
    if isinstance(error, NotAGateway):
        return f"{error.message}; is --url right?"
    if error.param == "force":
        return f"{error.message} (here: --force)"
    if error.request_id is not None and (error.status or 0) >= 500:
        return f"{error.message} (request {error.request_id} in the gateway's log)"
    return error.message


def find_connection(url: str | None, key: str | None, environ: Mapping[str, str]) -> Connection:
    """The connection that these flags and this environment stand for."""
    address = _checked_url(url or environ.get("LORAPLEX_URL"))
    found_key, source = _given_key(key, environ) or _own_key(address, environ)
    if found_key is not None and not (found_key.isascii() and found_key.isprintable()):
        raise UsageError(f"the key from {source} holds characters that no key has; copy it again")
    return Connection(address, found_key, source)


def environment_of_this_machine() -> dict[str, str]:
    """The environment for a gateway beside the person's own: no setting that points at that one."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LORAPLEX_") or name in _ABOUT_THE_MACHINE
    }


def _checked_url(url: str | None) -> str:
    if not url:
        return DEFAULT_URL
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--url: {url!r} is no address; write it like {DEFAULT_URL}")
    return url.rstrip("/").removesuffix("/v1").removesuffix("/admin")


def _given_key(flag: str | None, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """A key that the person chose for this gateway, and its source."""
    for value, source in ((flag, "--key"), (environ.get("LORAPLEX_KEY"), "LORAPLEX_KEY")):
        if value and value.strip():
            return value.strip(), source
    return None


def _own_key(url: str, environ: Mapping[str, str]) -> tuple[str | None, str]:
    """This machine's admin key and its source. Nobody chose it for `url`, so it stays here."""
    if not is_loopback(url):
        raise UsageError(
            f"{url} is not on this machine, whose admin key is sent nowhere else; "
            "pass that gateway's key with --key or LORAPLEX_KEY"
        )
    if value := environ.get("LORAPLEX_ADMIN_KEY", "").strip():
        return value, "LORAPLEX_ADMIN_KEY"
    file = _data_dir(environ) / "admin.key"
    try:
        return file.read_text().strip() or None, f"the file {file}"
    except FileNotFoundError:
        return None, f"the file {file}"
    except OSError as error:
        raise CommandError(f"cannot read the admin key in {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"the admin key in {file} is not text") from None


def _data_dir(environ: Mapping[str, str]) -> Path:
    if folder := environ.get("LORAPLEX_DATA_DIR"):
        return Path(folder).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("loraplex"))
