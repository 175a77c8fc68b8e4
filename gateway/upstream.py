"""A lean HTTP/1.1 client for the hot path: one origin, a keep-alive pool, bytes as they come.

    UpstreamError
    +-- CannotConnect      nothing was sent
    +-- ConnectionLost     the engine closed in the middle
    +-- BadResponse        not HTTP, or over the limits
    +-- UpstreamTimeout    no first byte, or silence in the middle of a body

A `Response` holds its connection until `release()`, which is idempotent: a connection whose
response was read to its end goes back to the pool, any other is closed, which is how the engine
learns that nobody listens any more.

A body is read whole, or piped: its bytes are handed to a function from within the event loop's
own read, without a task, a future or a timer for each. Whoever pipes pauses and resumes the
reading, so that a slow receiver slows the engine down and fills no memory.

An answer must never pass for another's: a connection on which anything came after a response is
closed, not used again.
"""

import asyncio
import os
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import NoReturn, Self, cast
from urllib.parse import urlsplit

import httptools

Header = tuple[bytes, bytes]
Sink = Callable[[bytes], None]
"""Takes the next bytes of a body. What it raises ends the call. It may pause, resume, release."""

_HEADER_BYTES = 65_536
"""Most that is taken of headers, and of anything else that comes between a body's bytes."""
_BUFFER_BYTES = 262_144
"""Most that is kept of a body which nobody reads yet."""
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
    """One connection, one response at a time.

    One task waits on it at most, for the headers or for the body's end, with one timer.
    """

    def __init__(self, pool: "Upstream") -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._arrivals = select.poll()
        self._parts: list[bytes] = []
        """What one read brought of a body."""
        # The parser looks its callbacks up once, and this one is called for every chunk.
        self.on_body = self._parts.append
        self._parser: httptools.HttpResponseParser | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._sent_at = 0.0
        self._silent_since = 0.0
        """When the last of a body's bytes came, or reading was resumed."""
        self._timeout_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.closed = False
        self._reset()

    def _reset(self) -> None:
        self._listening = False
        """Whether the engine is to say something: from the request to the response's end."""
        self._header_bytes = 0
        self._bare_bytes = 0
        """What was read since the last of a body's bytes: headers, trailers, framing."""
        self._kept: list[bytes] = []
        """The body until it is taken."""
        self._kept_bytes = 0
        self._most_kept = _BUFFER_BYTES
        self._full = False
        """Whether it is this that paused the reading, and nobody else."""
        self._whole = False
        """Whether the body is wanted whole."""
        self._sink: Sink | None = None
        self._sized = False
        self._keep_alive = False
        self.status = 0
        self.headers: list[Header] = []
        self.headers_complete = False
        self.complete = False
        self.error: Exception | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if (sock := transport.get_extra_info("socket")) is not None:
            self._arrivals.register(sock.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if not self._listening:
            self.abort()  # Nobody asked: what follows could pass for the next answer.
            return
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                self.fail(_bad(error))
                return
            self.abort()  # The response is whole, and something follows it.
        if parts := self._parts:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self._silent_since = self._loop.time()
            self._bare_bytes = 0
            if self._sink is None:
                self._keep(body)
                return
            try:
                self._sink(body)
            except Exception as error:
                self.fail(error)
        elif not self.complete:
            self._bare_bytes += len(data)
            if self._bare_bytes > _HEADER_BYTES:
                self.fail(BadResponse("too many bytes besides the body"))

    def eof_received(self) -> None:
        """The engine sends no more; asyncio closes the connection next."""
        if self._listening and self.headers_complete and not self._sized:
            self._end()  # A body without a length ends with its connection.
        elif not self.complete:
            self.fail(ConnectionLost("the engine closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.closed = True
        self._pool._forget(self)
        self._parser = None  # It holds the callbacks: a circle that only the collector would find.
        if not self.complete:
            self.fail(ConnectionLost("the engine closed the connection"))

    # httptools callbacks, where what they raise stops the parsing

    def on_message_begin(self) -> None:
        if self.complete:
            raise BadResponse("more than one response")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value) + 4  # `: ` and the line's end
        if self._header_bytes > _HEADER_BYTES:
            raise BadResponse("response headers too large")
        if self.headers_complete:
            return  # Trailers say nothing that is needed.
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._sized = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:
            # 100 Continue and its kin come before the response, and have no body.
            if status in (100, 102, 103) and not self._sized:
                return
            raise BadResponse(f"not a status for a response: {status}")
        self.status = status
        self.headers_complete = True
        self._wake()

    def on_message_complete(self) -> None:
        if self.headers_complete:
            assert self._parser is not None
            self._keep_alive = self._parser.should_keep_alive()
            self._end()
        else:
            self.headers = []

    # the response's side

    def was_stale(self) -> bool:
        """Whether a connection that is lost now was closed by the engine while it was kept."""
        return not self._bare_bytes and self._loop.time() - self._sent_at < _STALE_S

    def quiet(self) -> bool:
        """Whether nothing came since the response, not even the end, seen by the loop or not."""
        return not self.closed and not self._arrivals.poll(0)

    def send(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        self._reset()
        self._listening = True
        self._sent_at = self._loop.time()
        if self._parser is None:  # Not before: who gives up connecting is told of no loss.
            self._parser = httptools.HttpResponseParser(self)
        self._transport.write(head + body)

    async def wait_headers(self, timeout_s: float) -> None:
        if not self.headers_complete and not self.error:
            await self._wait(timeout_s)
        if not self.headers_complete and self.error:
            self._raise(self.error)

    async def read(self, idle_s: float, limit_bytes: int) -> bytes:
        self._whole, self._most_kept = True, limit_bytes
        self._limit_kept()
        self.resume()
        if self.error or not self.complete:
            await self._wait_end(idle_s)
        return _joined(self._kept)

    async def pipe(self, sink: Sink, idle_s: float) -> None:
        if self._full:
            self.resume()
        try:
            if self._kept:
                sink(_joined(self._kept))
            self._sink = sink
            await self._wait_end(idle_s)
        except BaseException:
            self.abort()
            raise
        finally:
            self._sink = None

    def pause(self) -> None:
        """Stops reading: what the engine sends waits at the engine."""
        self._full = False
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        self._full = False
        if self._paused and self._transport is not None:
            self._paused = False
            self._silent_since = self._loop.time()
            self._transport.resume_reading()

    def reusable(self) -> bool:
        """Whether the next request may use the connection."""
        return (
            self.complete
            and self._keep_alive
            and not self.closed
            and not self._kept
            and not self._paused
            and self._waiter is None
            # An engine that answered before it had read the request is out of step too.
            and self._transport is not None
            and not self._transport.get_write_buffer_size()
        )

    def abort(self) -> None:
        self.closed = True
        self._listening = False
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
        self.abort()
        self._wake()

    # inside

    def _keep(self, body: bytes) -> None:
        self._kept.append(body)
        self._kept_bytes += len(body)
        self._limit_kept()

    def _limit_kept(self) -> None:
        if self._kept_bytes <= self._most_kept:
            return
        if self._whole:
            self.fail(BadResponse("response body too large"))
        elif not self._paused:
            self.pause()
            self._full = True

    def _end(self) -> None:
        self.complete = True
        self._listening = False
        self._wake()

    async def _wait_end(self, idle_s: float) -> None:
        if not self.complete and not self.error:
            await self._wait(idle_s)
        if self.error:
            self._raise(self.error)

    def _raise(self, error: Exception) -> NoReturn:
        """Forgets the error: it holds the frames it passes, and so this connection, a circle."""
        self.error = ConnectionLost("the engine closed the connection")
        try:
            raise error
        finally:
            del error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, timeout_s: float) -> None:
        """Until the headers, the end or an error has come.

        Raises UpstreamTimeout; this and a cancellation close the connection.
        """
        self._waiter = self._loop.create_future()
        self._timeout_s = timeout_s
        self._timer = self._loop.call_later(timeout_s, self._look_at_silence)
        try:
            await self._waiter
        except BaseException:
            self.abort()
            raise
        finally:
            self._timer.cancel()
            self._waiter = self._timer = None

    def _look_at_silence(self) -> None:
        """One timer follows a whole body: set again for as long as its bytes keep coming."""
        left_s = self._timeout_s  # Where we have paused, it is not the engine that is silent.
        if not self._paused:
            left_s += self._silent_since - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look_at_silence)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(UpstreamTimeout("the engine was silent for too long"))


def _joined(parts: list[bytes]) -> bytes:
    """Empties the list."""
    whole = parts[0] if len(parts) == 1 else b"".join(parts)
    parts.clear()
    return whole


def _bad(error: Exception) -> BadResponse:
    """What a callback raised is the context of what the parser raises."""
    if isinstance(error.__context__, BadResponse):
        return error.__context__
    return BadResponse(f"not an HTTP response: {error}")


class Response:
    """A response whose headers have arrived; `release()` it, always."""

    __slots__ = ("_connection", "_pool", "_released", "headers", "status")

    def __init__(self, pool: "Upstream", connection: _Connection) -> None:
        self._pool = pool
        self._connection = connection
        self._released = False
        self.status = connection.status
        self.headers: Sequence[Header] = connection.headers

    def header(self, name: bytes) -> bytes | None:
        """The first header of that lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    async def read(self, idle_s: float, limit_bytes: int) -> bytes:
        """The whole body. Ends a pause.

        Raises ConnectionLost, UpstreamTimeout after `idle_s` seconds without a byte of the body,
        BadResponse for what is not HTTP or above `limit_bytes`. Cancelled or raising, it closes
        the connection.
        """
        self._must_be_held()
        return await self._connection.read(idle_s, limit_bytes)

    async def pipe(self, sink: Sink, idle_s: float) -> None:
        """Hands the body to `sink` as it comes, chunks that arrived together joined; returns at
        its end. What has come already is handed on even where the reading is paused.

        Raises ConnectionLost, BadResponse, UpstreamTimeout after `idle_s` seconds without a byte
        of the body (time spent paused does not count), and whatever `sink` raises. Cancelled or
        raising, it closes the connection and `sink` is called no more.
        """
        self._must_be_held()
        await self._connection.pipe(sink, idle_s)

    def pause(self) -> None:
        """Stops the reading: a pipe calls its sink no more until `resume()`."""
        if not self._released:
            self._connection.pause()

    def resume(self) -> None:
        """Goes on reading."""
        if not self._released:
            self._connection.resume()

    def release(self) -> None:
        """Gives the connection back, or closes it where the response was not read to its end."""
        if self._released:
            return
        self._released = True
        self._pool._give_back(self._connection)

    def _must_be_held(self) -> None:
        if self._released:  # The connection may carry another's answer by now.
            raise RuntimeError("the response was released")

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
        self._idle: dict[_Connection, None] = {}
        """The last one used is the first to be used again."""
        self._all: set[_Connection] = set()
        self._closed = False

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
        """Sends a request, other than HEAD and CONNECT, and waits for the response's headers.

        A kept connection that the engine had closed meanwhile is replaced once, unseen; one that
        is lost later, or after a first byte, is an error: the engine may be at work on the request.
        Raises UpstreamError. Cancelled, it closes the connection.
        """
        head = self._head(method, path, headers, len(body))
        kept = self._take()
        if kept is not None:
            try:
                return await self._exchange(kept, head, body, first_byte_s)
            except ConnectionLost:
                if not kept.was_stale():
                    raise
        return await self._exchange(await self._connect(), head, body, first_byte_s)

    async def close(self) -> None:
        """Closes every connection; calls in flight and later ones raise UpstreamError."""
        self._closed = True
        for connection in list(self._all):
            connection.abort()
        for _ in range(2):
            await asyncio.sleep(0)  # The transports report their end, TLS in its second round.

    async def _exchange(
        self, connection: _Connection, head: bytes, body: bytes, first_byte_s: float
    ) -> Response:
        connection.send(head, body)
        await connection.wait_headers(first_byte_s)
        return Response(self, connection)

    def _head(self, method: bytes, path: bytes, headers: Sequence[Header], size: int) -> bytes:
        lines = [b"%b %b%b HTTP/1.1" % (method, self._prefix, path), b"host: " + self._host_header]
        lines += [name + b": " + value for name, value in headers]
        lines.append(b"content-length: %d\r\n\r\n" % size)
        return b"\r\n".join(lines)

    def _take(self) -> _Connection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.quiet():
                return connection
            connection.abort()
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
            raise CannotConnect(f"the engine takes no connection: {_reason(error)}") from None
        except UnicodeError:
            raise CannotConnect(f"not a host name: {self._host}") from None
        if connection.closed:
            raise CannotConnect("the engine closed the connection at once")
        self._all.add(connection)
        if self._closed:
            connection.abort()
            raise CannotConnect("this client is closed")
        return connection

    def _give_back(self, connection: _Connection) -> None:
        if connection.reusable() and len(self._idle) < _IDLE_CONNECTIONS:
            self._idle[connection] = None
        else:
            connection.abort()

    def _forget(self, connection: _Connection) -> None:
        self._all.discard(connection)
        self._idle.pop(connection, None)


def _reason(error: OSError) -> str:
    if error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or "unreachable"
