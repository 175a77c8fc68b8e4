"""Where requests go, and with whose keys."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

_TLS_PORT, _PORT = 443, 80
_ROUTES = ("/chat/completions", "/completions", "/models")


class TargetError(Exception):
    """A target that cannot be asked; names the option and the fix. Holds no key."""


@dataclass(frozen=True, slots=True)
class Target:
    """An OpenAI-compatible server."""

    url: str
    """With or without `/v1` at its end. Raises TargetError for what is no HTTP address."""
    key: SecretStr | None = None
    """For tenants without one of their own."""
    keys: Mapping[str, SecretStr] = field(default_factory=dict)
    """By tenant."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    check_certificate: bool = True

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError:
            # Not its words: they quote what may be a piece of a password.
            raise TargetError("--url: is no address; give it as http://HOST:PORT") from None
        if parts.username is not None or parts.password is not None:
            raise TargetError("--url: holds a user or password; give a key with --key instead")
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            shown = "" if "@" in self.url else f"`{self.url}` "
            raise TargetError(f"--url: {shown}is no address; give it as http://HOST:PORT")
        for route in _ROUTES:
            if parts.path.rstrip("/").endswith(route):
                raise TargetError(f"--url: the tester adds `{route}` itself; leave it out")
        if parts.query or parts.fragment:
            raise TargetError("--url: has a query or fragment; leave it out")
        for name, value in self.headers.items():
            if any(mark in name + value for mark in "\r\n\0"):
                raise TargetError(f"--header: {name!r} holds a line's end; take it out")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (_TLS_PORT if self.tls else _PORT)

    @property
    def tls(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    @property
    def prefix(self) -> str:
        """What comes before `/v1/...`."""
        return urlsplit(self.url).path.rstrip("/").removesuffix("/v1")

    def key_of(self, tenant: str) -> str | None:
        """The tenant's own key, else the one for all."""
        found = self.keys.get(tenant, self.key)
        return None if found is None else found.get_secret_value()

    def ssl_context(self) -> ssl.SSLContext | None:
        """None without TLS. Raises TargetError where `ca_file` cannot be read."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise TargetError(
                f"--ca-file: {self.ca_file} holds no certificates that can be read ({error})"
            ) from error
        if not self.check_certificate:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def request_head(self, route: str, tenant: str) -> bytes:
        """All of a request's head but the value of `content-length`."""
        key = self.key_of(tenant)
        given = {name.lower(): value for name, value in self.headers.items()}
        headers = {
            "host": urlsplit(self.url).netloc,
            "user-agent": "loraplex-loadtest",
            "accept": "*/*",
            "content-type": "application/json",
            **({} if key is None else {"authorization": f"Bearer {key}"}),
            **given,
        }
        lines = [f"POST {self.prefix}{route} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "content-length: "]).encode("latin-1", "replace")
