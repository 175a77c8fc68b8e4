"""Adapters that a command reads: a folder on this machine, or a version out of the registry."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loraplex.adapter_pull import wanted_version
from loraplex.connection import client_of, gateway_connection
from loraplex.errors import UsageError
from loraplex.refs import Ref, parse_ref

Told = Callable[[str, float | None], None]
"""Told what is being done, and the part of it that is done where known."""

_DIGEST_CHARS = 12


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """An adapter's folder. name: without what lies above it. described: what it is, in words."""

    folder: Path
    name: str
    described: str


def adapter_source(text: str) -> Path | Ref:
    """A folder that is there, else a version's name."""
    folder = Path(text).expanduser()
    return folder if folder.is_dir() else named_version(text)


def named_version(text: str) -> Ref:
    """The version that is named. Raises UsageError, as nothing else is left that it could be."""
    try:
        return parse_ref(text)
    except UsageError:
        raise UsageError(
            f"--adapter: {text!r} is no folder here, and names no version as acme/support@3 does"
        ) from None


def fetch_adapter(
    source: Path | Ref, aside: Path, *, url: str | None, key: str | None, told: Told
) -> AdapterFiles:
    """The adapter's files, pulled into the new folder `aside` where a version is named."""
    if isinstance(source, Path):
        return AdapterFiles(source, source.resolve().name, str(source))
    with client_of(gateway_connection(url, key)) as gateway:
        version = wanted_version(gateway, source)
        label = f"{source.tenant}/{source.adapter}@{version['version']}"
        told(f"receiving {label}", None)
        gateway.download(source.tenant, source.adapter, version["version"], aside)
    return AdapterFiles(aside, label, f"{label}, digest {version['digest'][:_DIGEST_CHARS]}")
