"""Typed client of a gateway's admin API. Every failure is a CommandError of one clear line."""

import io
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NotRequired, Self, TypedDict, cast
from urllib.parse import quote, urlsplit

import httpx

from loraplex.errors import CommandError

_CONNECT_S = 5.0
_ANSWER_S = 300.0
"""A promotion may wait for an engine to load the adapter, a push for the check of its weights."""


class TenantBody(TypedDict):
    name: str
    policy: dict[str, Any]
    created_at: str


class KeyBody(TypedDict):
    id: str
    name: str
    scopes: list[str]
    created_at: str
    key: NotRequired[str]
    """Only in the answer that made it."""


class VersionBody(TypedDict):
    version: int
    digest: str
    state: str
    rank: int
    size_bytes: int
    warnings: list[str]
    profile: dict[str, Any]
    created_at: str


class AdapterBody(TypedDict):
    tenant: str
    adapter: str
    live: int | None
    revision: int
    versions: list[VersionBody]


HistoryBody = TypedDict(
    "HistoryBody",
    {
        "at": str,
        "actor": str,
        "action": str,
        "from": int | None,
        "to": int | None,
        "reason": str | None,
        "forced": bool,
    },
)


class EngineBody(TypedDict):
    id: str
    url: str
    state: str
    reason: str | None
    resident: list[str]
    in_flight: int


class ReadyBody(TypedDict):
    status: str
    reason: NotRequired[str]


class GatewayUnreachable(CommandError):
    """Nothing answers at the gateway's address."""


class Refused(CommandError):
    """The gateway's own refusal: its message, HTTP status, code and the field at fault."""

    def __init__(
        self, message: str, *, status: int, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


@dataclass(frozen=True)
class UploadPart:
    """One part of a multipart upload: bytes, or a file that is read while it is sent."""

    name: str
    content: bytes | Path


class AdminClient:
    """The admin API of the gateway at `url`, called with `key`.

    key_source says in words where the key came from, for the message when it is refused.
    """

    def __init__(self, url: str, key: str | None, *, key_source: str = "--key") -> None:
        self._url = url.rstrip("/")
        self._key_source = key_source
        self._has_key = key is not None
        self._http = httpx.Client(
            base_url=self._url,
            headers={"authorization": f"Bearer {key}"} if key is not None else {},
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            # A proxy from the environment cannot reach this machine's own loopback.
            trust_env=not is_loopback(self._url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def tenants(self) -> list[TenantBody]:
        return cast(list[TenantBody], self._list("/tenants"))

    def create_tenant(self, name: str) -> TenantBody:
        return cast(TenantBody, self._json("POST", "/tenants", {"name": name}))

    def delete_tenant(self, name: str) -> None:
        self._call("DELETE", _path("tenants", name))

    def keys(self, tenant: str) -> list[KeyBody]:
        return cast(list[KeyBody], self._list(_path("tenants", tenant, "keys")))

    def create_key(self, tenant: str, *, name: str = "", scopes: Iterable[str] = ()) -> KeyBody:
        """A new key; the answer's `key` is shown this one time."""
        body: dict[str, Any] = {"name": name} if name else {}
        if chosen := list(scopes):
            body["scopes"] = chosen
        return cast(KeyBody, self._json("POST", _path("tenants", tenant, "keys"), body))

    def revoke_key(self, tenant: str, key_id: str) -> None:
        self._call("DELETE", _path("tenants", tenant, "keys", key_id))

    def adapters(self, tenant: str) -> list[AdapterBody]:
        return cast(list[AdapterBody], self._list(_path("tenants", tenant, "adapters")))

    def versions(self, tenant: str, adapter: str) -> list[VersionBody]:
        return cast(list[VersionBody], self._list(_adapter(tenant, adapter, "versions")))

    def version(self, tenant: str, adapter: str, number: int) -> VersionBody:
        path = _adapter(tenant, adapter, "versions", number)
        return cast(VersionBody, self._json("GET", path))

    def push(
        self,
        tenant: str,
        adapter: str,
        parts: Iterable[UploadPart],
        *,
        sent: Callable[[int], None] = lambda size_bytes: None,
    ) -> VersionBody:
        """Uploads a new version. Files are read while they are sent; `sent` is told each step."""
        with ExitStack() as files:
            form = [(part.name, _form_field(part, files, sent)) for part in parts]
            answer = self._call("POST", _adapter(tenant, adapter, "versions"), files=form)
        return cast(VersionBody, self._object(answer))

    def download(
        self, tenant: str, adapter: str, version: int, name: str, *, take: Callable[[bytes], object]
    ) -> None:
        """Reads one of a version's files; `take` is given block after block."""
        path = _adapter(tenant, adapter, "versions", version, "files", name)
        with self._reaching(), self._http.stream("GET", f"/admin/v1{path}") as answer:
            if not answer.is_success:
                answer.read()
                raise self._refusal(answer)
            for block in answer.iter_bytes():
                take(block)

    def promote(
        self,
        tenant: str,
        adapter: str,
        version: int,
        *,
        reason: str | None = None,
        force: bool = False,
        if_match: int | None = None,
    ) -> AdapterBody:
        """Makes a version the live one. if_match: only if the adapter is at this revision."""
        body: dict[str, Any] = {"version": version}
        if force:
            body["force"] = True
        return self._move(_adapter(tenant, adapter, "promote"), body, reason, if_match)

    def rollback(
        self,
        tenant: str,
        adapter: str,
        *,
        to: int | None = None,
        reason: str | None = None,
        if_match: int | None = None,
    ) -> AdapterBody:
        """Makes the version that was live before, or `to`, the live one again."""
        body: dict[str, Any] = {} if to is None else {"to": to}
        return self._move(_adapter(tenant, adapter, "rollback"), body, reason, if_match)

    def history(self, tenant: str, adapter: str) -> list[HistoryBody]:
        """What happened to an adapter, newest first."""
        return cast(list[HistoryBody], self._list(_adapter(tenant, adapter, "history")))

    def delete_version(self, tenant: str, adapter: str, version: int) -> None:
        self._call("DELETE", _adapter(tenant, adapter, "versions", version))

    def engines(self) -> list[EngineBody]:
        return cast(list[EngineBody], self._list("/engines"))

    def ready(self) -> ReadyBody:
        """Whether the gateway takes requests, and if not, why. Needs no key."""
        answer = self._send("GET", "/readyz")
        if answer.status_code not in (200, 503):
            raise self._refusal(answer)
        body = self._object(answer)
        if "status" not in body:
            raise self._stranger(answer)
        return cast(ReadyBody, body)

    def _move(
        self, path: str, body: dict[str, Any], reason: str | None, if_match: int | None
    ) -> AdapterBody:
        if reason is not None:
            body["reason"] = reason
        headers = {} if if_match is None else {"if-match": f'"{if_match}"'}
        return cast(AdapterBody, self._json("POST", path, body, headers))

    def _list(self, path: str) -> Any:
        answer = self._call("GET", path)
        data = self._object(answer).get("data")
        if not isinstance(data, list):
            raise self._stranger(answer)
        return data

    def _json(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        return self._object(self._call(method, path, json=body, headers=headers))

    def _call(self, method: str, path: str, **content: Any) -> httpx.Response:
        answer = self._send(method, f"/admin/v1{path}", **content)
        if not answer.is_success:
            raise self._refusal(answer)
        return answer

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        with self._reaching():
            return self._http.request(method, path, **content)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Says in words why a call, or the reading of its answer, broke off."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise GatewayUnreachable(
                f"cannot reach {self._url}: is `loraplex serve` running? "
                "--url or LORAPLEX_URL names another gateway"
            ) from None
        except httpx.TimeoutException:
            raise CommandError(f"{self._url} took too long to answer; look at its log") from None
        except httpx.TransportError as error:
            raise CommandError(
                f"the connection to {self._url} broke off ({type(error).__name__}); try again"
            ) from None

    def _refusal(self, answer: httpx.Response) -> CommandError:
        if answer.status_code == 401:
            return Refused(self._key_refused(), status=401, code="invalid_api_key")
        error = _error_body(answer)
        if error is None:
            return self._stranger(answer)
        return Refused(
            str(error["message"]),
            status=answer.status_code,
            code=error.get("code"),
            param=error.get("param"),
        )

    def _object(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise self._stranger(answer)
        return body

    def _stranger(self, answer: httpx.Response) -> CommandError:
        return CommandError(
            f"{self._url} does not answer like a Loraplex gateway (HTTP {answer.status_code}); "
            "is --url right?"
        )

    def _key_refused(self) -> str:
        ways = "pass --key or set LORAPLEX_KEY"
        if not self._has_key:
            return f"this needs a key, and there is none in {self._key_source}; {ways}"
        return f"{self._url} does not know the key from {self._key_source}; {ways} to use another"


class _SentFile(io.FileIO):
    """A file that reports every block read from it, so that a progress bar can follow."""

    def __init__(self, path: Path, sent: Callable[[int], None]) -> None:
        super().__init__(path)
        self._sent = sent

    def read(self, size: int | None = -1, /) -> Any:
        block = super().read(size)
        self._sent(len(block or b""))
        return block


def _form_field(
    part: UploadPart, files: ExitStack, sent: Callable[[int], None]
) -> tuple[str, Any, str]:
    kind = "application/json" if part.name.endswith(".json") else "application/octet-stream"
    if isinstance(part.content, bytes):
        return part.name, part.content, kind
    return part.name, files.enter_context(_SentFile(part.content, sent)), kind


def _error_body(answer: httpx.Response) -> dict[str, Any] | None:
    """The `error` object of a refusal in OpenAI's shape, if it is one."""
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return None
    return error if isinstance(error, dict) and error.get("message") else None


def _path(*segments: str | int) -> str:
    return "".join(f"/{quote(str(segment), safe='')}" for segment in segments)


def _adapter(tenant: str, adapter: str, *more: str | int) -> str:
    return _path("tenants", tenant, "adapters", adapter, *more)


def is_loopback(url: str) -> bool:
    """Whether a URL's host can only be this machine: localhost, 127.0.0.0/8 or ::1."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
