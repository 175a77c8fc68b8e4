"""The two clients: one call sent and its answer read, plainly or awaited. All else is shared."""

import ipaddress
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from loraplex.client.api import AdminApi
from loraplex.client.call import Call, Steps, Unexpected
from loraplex.client.errors import (
    REFUSALS,
    BrokenOff,
    NotAGateway,
    Refused,
    TimedOut,
    Unreachable,
)
from loraplex.errors import LoraplexError

DEFAULT_URL = "http://127.0.0.1:8080"
_CONNECT_S = 5.0
_ANSWER_S = 300.0
"""A promotion may wait for an engine to load the adapter, a push for the check of its weights."""

T = TypeVar("T")


class Client(AdminApi):
    """The admin API of the gateway at `url`, called with `key`. Close it, or use it in a `with`.

    key: the admin key, or a tenant's with the scope `manage`. timeout_s: the longest silence.
    Every failure is a LoraplexError; a file that cannot be read or written an OSError.
    """

    def __init__(
        self, url: str = DEFAULT_URL, key: str | None = None, *, timeout_s: float = _ANSWER_S
    ) -> None:
        self._gateway = _Gateway(url)
        self._http = httpx.Client(**self._gateway.settings(key, timeout_s))

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

    def send(self, call: Call[T]) -> T:
        """One call of `loraplex.client.calls`."""
        with self._gateway.reaching(), call.body() as body:
            answer = self._http.send(_request(self._http, call, body), stream=True)
            try:
                if call.take is None or not answer.is_success:
                    answer.read()
                else:
                    _expect(call, answer)
                    for block in answer.iter_bytes():
                        call.take(block)
            finally:
                answer.close()
        return self._gateway.result(call, answer)

    def run(self, steps: Steps[T]) -> T:
        """Several calls in a row."""
        try:
            call = next(steps)
            while True:
                try:
                    value = self.send(call)
                except BaseException as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


class AsyncClient(AdminApi):
    """As Client, and its calls are awaited. Files are read and written in the event loop."""

    def __init__(
        self, url: str = DEFAULT_URL, key: str | None = None, *, timeout_s: float = _ANSWER_S
    ) -> None:
        self._gateway = _Gateway(url)
        self._http = httpx.AsyncClient(**self._gateway.settings(key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """One call of `loraplex.client.calls`."""
        with self._gateway.reaching(), call.body() as body:
            request = _request(self._http, call, body)
            if not isinstance(request.stream, httpx.AsyncByteStream):
                request.stream = _Awaited(request.stream)
            answer = await self._http.send(request, stream=True)
            try:
                if call.take is None or not answer.is_success:
                    await answer.aread()
                else:
                    _expect(call, answer)
                    async for block in answer.aiter_bytes():
                        call.take(block)
            finally:
                await answer.aclose()
        return self._gateway.result(call, answer)

    async def run(self, steps: Steps[T]) -> T:
        """Several calls in a row."""
        try:
            call = next(steps)
            while True:
                try:
                    value = await self.send(call)
                except BaseException as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


class _Awaited(httpx.AsyncByteStream):
    """A body that is read from a file, for the async client."""

    def __init__(self, blocks: Any) -> None:
        self._blocks = blocks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self._blocks:
            yield block


class _Gateway:
    """How the gateway at an address is reached, and what its answers come to. Does no I/O."""

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError(f"url: {url!r} is no address; write it like {DEFAULT_URL}")
        self._url = url.rstrip("/")

    def settings(self, key: str | None, timeout_s: float) -> dict[str, Any]:
        """Of httpx's client."""
        return {
            "base_url": self._url,
            "headers": {} if key is None else {"authorization": f"Bearer {key}"},
            "timeout": httpx.Timeout(timeout_s, connect=_CONNECT_S),
            # A proxy from the environment cannot reach this machine's own loopback.
            "trust_env": not is_loopback(self._url),
        }

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Says in words why a call, or the reading of its answer, broke off."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise Unreachable(f"cannot reach {self._url}: is `loraplex serve` running?") from None
        except httpx.TimeoutException:
            raise TimedOut(f"{self._url} took too long to answer; look at its log") from None
        except httpx.TransportError as error:
            raise BrokenOff(
                f"the connection to {self._url} broke off ({type(error).__name__}); try again"
            ) from None

    def result(self, call: Call[T], answer: httpx.Response) -> T:
        """The answer's value. Raises Refused, NotAGateway."""
        if not answer.is_success and answer.status_code not in call.also:
            raise self._refusal(answer)
        try:
            return call.read(answer)
        except Unexpected:
            raise self._stranger(answer) from None

    def _refusal(self, answer: httpx.Response) -> LoraplexError:
        error = _error_body(answer)
        if error is None:
            return self._stranger(answer)
        refused = REFUSALS.get(answer.status_code, Refused)(
            str(error["message"]),
            status=answer.status_code,
            code=error.get("code"),
            param=error.get("param"),
            request_id=answer.headers.get("x-request-id"),
        )
        refused.retry_after_s = _seconds(answer.headers.get("retry-after"))
        return refused

    def _stranger(self, answer: httpx.Response) -> NotAGateway:
        return NotAGateway(
            f"{self._url} does not answer like a Loraplex gateway (HTTP {answer.status_code})",
            status=answer.status_code,
        )


def _request(
    http: httpx.Client | httpx.AsyncClient, call: Call[Any], body: dict[str, Any]
) -> httpx.Request:
    timeout = httpx.Timeout(None, connect=_CONNECT_S) if call.patient else http.timeout
    return http.build_request(
        call.method,
        call.path,
        params=call.params or None,
        headers=call.headers,
        timeout=timeout,
        **body,
    )


def _expect(call: Call[Any], answer: httpx.Response) -> None:
    length = answer.headers.get("content-length", "")
    if length.isdecimal():
        call.expect(int(length))


def _error_body(answer: httpx.Response) -> dict[str, Any] | None:
    """The `error` object of a refusal in OpenAI's shape, if it is one."""
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return None
    return error if isinstance(error, dict) and error.get("message") else None


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:  # A date, which no gateway of ours sends.
        return None


def is_loopback(url: str) -> bool:
    """Whether a URL's host can only be this machine: localhost, 127.0.0.0/8 or ::1."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
