"""A lean HTTP/1.1 client for the hot path: one origin, a keep-alive pool, bytes as they come.

    UpstreamError
    +-- CannotConnect      nothing was sent
    +-- ConnectionLost     the engine closed in the middle
    +-- BadResponse        not HTTP, or over the limits
    +-- UpstreamTimeout    no first byte, or silence in the middle of a body

A `Response` holds its connection until `release()`, which is idempotent: a connection whose
response was read to its end goes back to the pool, any other is closed, which is how the engine
learns that nobody listens any more.
"""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from typing import Self, cast
from urllib.parse import urlsplit

import httptools

Header = tuple[bytes, bytes]

_HEADER_BYTES = 65_536
_BUFFER_BYTES = 262_144
"""Above this the connection is no longer read: a slow client slows the engine, not memory."""
_IDLE_CONNECTIONS = 1024
_STALE_S = 1.0
"""A connection that was closed while it was kept shows it at once."""


class UpstreamError(Exception):
    """A call to the engine that brought no whole answer."""


class CannotConnect(UpstreamError):
    """The engine takes no connection; nothing was sent."""


class ConnectionLost(UpstreamError):
    """The engine closed the connection before the response's end."""


class BadResponse(UpstreamError):
    """The engine answered something that is not HTTP, or over the limits."""


class UpstreamTimeout(UpstreamError):
    """The engine was silent for too long."""


class _Connection(asyncio.Protocol):
    """One connection: parses one response at a time into a buffer with back-pressure."""

    def __init__(self, pool: "Upstream") -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers_seen = 0
        self._buffered = 0
        self._chunks: list[bytes] = []
        self._sized = False
        self._keep_alive = False
        self._out_of_step = False
        """Whether the engine sent more than the one response."""
        self.status = 0
        self.headers: list[Header] = []
        self.headers_complete = False
        self.complete = False
        self.busy = False
        self.error: UpstreamError | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self.busy or self.complete:
            # Bytes nobody asked for: the connection is out of step.
            self.abort()
            return
        if not self.headers_complete:
            self._headers_seen += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(BadResponse(f"not an HTTP response: {type(error).__name__}"))
            return
        if not self.headers_complete and self._headers_seen > _HEADER_BYTES:
            self._fail(BadResponse("response headers too large"))
            return
        if self._buffered > _BUFFER_BYTES and not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._pool._forget(self)
        if not self.busy or self.complete or self.error:
            return
        if self.headers_complete and not self._sized and exc is None:
            self.complete = True  # A body without a length ends with its connection.
        else:
            self.error = ConnectionLost("the engine closed the connection")
        self._wake()

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            self._out_of_step = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._out_of_step:
            return
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._sized = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._out_of_step:
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:
            return
        self.headers_complete = True

    def on_body(self, body: bytes) -> None:
        if self._out_of_step:
            return
        self._chunks.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self._out_of_step:
            return
        if self.status < 200:  # 100 Continue and its kin come before the response.
            self.headers = []
            return
        self._keep_alive = self._parser.should_keep_alive()
        self.complete = True

    # the response's side

    def send(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        self._reset()
        self.busy = True
        self._transport.write(head + body)

    async def wait_headers(self, timeout_s: float) -> None:
        deadline = self._loop.time() + timeout_s
        while not self.headers_complete:
            if self.error:
                raise self.error
            await self._wait(deadline - self._loop.time())

    async def next_chunk(self, timeout_s: float) -> bytes:
        """All that has arrived, at least one byte; empty at the body's end."""
        deadline = self._loop.time() + timeout_s
        while not self._chunks:
            if self.error:
                raise self.error
            if self.complete:
                return b""
            await self._wait(deadline - self._loop.time())
        chunk = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._paused and self._transport is not None:
            self._transport.resume_reading()
            self._paused = False
        return chunk

    def reusable(self) -> bool:
        return (
            self.complete
            and not self._chunks
            and not self.closed
            and not self._paused
            and self.error is None
            and self._keep_alive
            and not self._out_of_step
        )

    def idle(self) -> None:
        self.busy = False

    def abort(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: UpstreamError) -> None:
        self.error = error
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, timeout_s: float) -> None:
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(max(timeout_s, 0), _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(UpstreamTimeout("the engine was silent for too long"))


class Response:
    """A response whose headers have arrived; `release()` it, always."""

    def __init__(self, pool: "Upstream", connection: _Connection) -> None:
        self._pool = pool
        self._connection = connection
        self._released = False
        self.status = connection.status
        self.headers: Sequence[Header] = connection.headers

    def header(self, name: bytes) -> bytes | None:
        """The first header of that lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    async def chunks(self, idle_s: float) -> AsyncIterator[bytes]:
        """The body as it comes, chunks that arrived together joined.

        Raises ConnectionLost, BadResponse, or UpstreamTimeout after `idle_s` seconds of silence.
        """
        while chunk := await self._connection.next_chunk(idle_s):
            yield chunk

    async def read(self, idle_s: float, limit_bytes: int) -> bytes:
        """The whole body. Raises as `chunks`, and BadResponse above `limit_bytes`."""
        parts: list[bytes] = []
        size = 0
        while chunk := await self._connection.next_chunk(idle_s):
            size += len(chunk)
            if size > limit_bytes:
                raise BadResponse("response body too large")
            parts.append(chunk)
        return b"".join(parts)

    def release(self) -> None:
        """Gives the connection back, or closes it where the response was not read to its end."""
        if self._released:
            return
        self._released = True
        self._pool._give_back(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Upstream:
    """The connections to one origin. url: `http(s)://host[:port][/prefix]`."""

    def __init__(self, url: str, *, connect_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) URL: {url}")
        self.url = url.rstrip("/")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._prefix = parts.path.rstrip("/").encode()
        self._host_header = parts.netloc.rpartition("@")[2].encode()
        self._connect_s = connect_s
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()

    @property
    def open_connections(self) -> int:
        """Connections that exist now, idle ones included."""
        return len(self._all)

    async def open(
        self,
        method: bytes,
        path: bytes,
        *,
        headers: Sequence[Header] = (),
        body: bytes = b"",
        first_byte_s: float,
    ) -> Response:
        """Sends a request and waits for the response's headers.

        A kept connection that the engine had closed meanwhile is replaced once, unseen; one that
        is lost later is an error, since the engine may be at work on the request.
        Raises UpstreamError. Cancelled, it closes the connection.
        """
        head = self._head(method, path, headers, len(body))
        kept = self._take()
        if kept is not None:
            sent_at = time.monotonic()
            try:
                return await self._exchange(kept, head, body, first_byte_s)
            except ConnectionLost:
                if time.monotonic() - sent_at > _STALE_S:
                    raise
        return await self._exchange(await self._connect(), head, body, first_byte_s)

    async def close(self) -> None:
        """Closes every connection, those in use too."""
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # lets the transports report their end

    async def _exchange(
        self, connection: _Connection, head: bytes, body: bytes, first_byte_s: float
    ) -> Response:
        try:
            connection.send(head, body)
            await connection.wait_headers(first_byte_s)
        except BaseException:
            connection.abort()
            raise
        return Response(self, connection)

    def _head(self, method: bytes, path: bytes, headers: Sequence[Header], size: int) -> bytes:
        lines = [b"%b %b%b HTTP/1.1" % (method, self._prefix, path), b"host: " + self._host_header]
        lines += [name + b": " + value for name, value in headers]
        lines.append(b"content-length: %d\r\n\r\n" % size)
        return b"\r\n".join(lines)

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self), self._host, self._port, ssl=self._ssl
                )
        except TimeoutError:
            raise CannotConnect("the engine takes no connection in time") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "unreachable"
            raise CannotConnect(f"the engine takes no connection: {reason}") from None
        self._all.add(connection)
        return connection

    def _give_back(self, connection: _Connection) -> None:
        if connection.reusable() and len(self._idle) < _IDLE_CONNECTIONS:
            connection.idle()
            self._idle.append(connection)
        else:
            connection.abort()

    def _forget(self, connection: _Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
