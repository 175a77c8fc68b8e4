"""The client's side of one relayed request: its headers and body, the way back, the moment it goes.

It stands on the server's connection itself (`http_guard`), not on ASGI: a scope, a cycle and a
message for each piece of the answer cost more than all that the relay does.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.errors import PayloadTooLarge, RequestTimeout

_UNASKED_BYTES = 65_536
"""Most of a body that is taken before anyone asks for it."""
_STATUS_LINES = {
    status: b"HTTP/1.1 %d \r\n" % status for status in range(200, 600)
}  # The reason phrase is optional, and read by nobody.
_CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


class Connection(Protocol):
    """What a client needs of the server's connection."""

    transport: asyncio.Transport

    def default_headers(self) -> bytes:
        """Header lines for every answer."""

    def pause_reading(self) -> None:
        """Takes no more of the request for now."""

    def resume_reading(self) -> None:
        """Goes on taking."""

    def answered(self) -> None:
        """The answer is complete."""

    @property
    def write_paused(self) -> bool:
        """Whether the client has not yet read what was written."""


class ClientGone(Exception):
    """The client closed the connection before its answer's end."""


class Client:
    """One relayed request and the way back. Used on the event loop's thread alone."""

    __slots__ = (
        "_body",
        "_chunked",
        "_connection",
        "_expects_100",
        "_limit_bytes",
        "_on_flow",
        "_size",
        "_waiter",
        "_whole",
        "cancels",
        "complete",
        "gone",
        "headers",
        "keep_alive",
        "started",
        "task",
    )

    def __init__(
        self,
        connection: Connection,
        headers: Sequence[tuple[bytes, bytes]],
        task: asyncio.Task[None],
        *,
        keep_alive: bool,
        expects_100: bool,
        chunked: bool,
    ) -> None:
        """chunked: whether the client knows HTTP's chunks; else the end of a stream is its own."""
        self.headers = headers
        """Names in lower case."""
        self.task = task
        """Who serves it."""
        self.cancels = False
        """Whether the task is to be cancelled when the client goes away."""
        self.keep_alive = keep_alive
        self.started = False
        """Whether the answer's head was written."""
        self.complete = False
        """Whether the answer was written to its end."""
        self.gone = False
        self._connection = connection
        self._expects_100 = expects_100
        self._chunked = chunked
        self._body: bytes | bytearray = b""
        self._size = 0
        self._limit_bytes = _UNASKED_BYTES
        self._whole = False
        self._waiter: asyncio.Future[None] | None = None
        self._on_flow: tuple[Callable[[], object], Callable[[], object]] | None = None

    # to the relay

    async def body(self, limit_bytes: int, timeout_s: float) -> bytes:
        """The whole request body.

        Raises PayloadTooLarge above `limit_bytes`, RequestTimeout where it takes longer than
        `timeout_s` seconds, ClientGone.
        """
        self._limit_bytes = limit_bytes
        if not self._whole and self._size <= limit_bytes and not self.gone:
            await self._wait_for_body(timeout_s)
        if self.gone:
            raise ClientGone
        if self._size > limit_bytes:
            raise PayloadTooLarge(f"The request body is over {limit_bytes} bytes.")
        if self._size > _UNASKED_BYTES:
            self._connection.resume_reading()  # Else the client's end would not be seen.
        body, self._body = self._body, b""
        return bytes(body)

    def answer(self, head: bytes, body: bytes, status: int = 200) -> None:
        """Writes a whole answer. head: header lines, each with its line end."""
        self._write_head(status, b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        self._finish()

    def start(self, head: bytes) -> None:
        """Begins an answer of a length that is not known yet."""
        self._write_head(200, head + (_CHUNKED if self._chunked else b"\r\n"))

    def write(self, data: bytes) -> None:
        """Writes the next bytes, at least one, of an answer that was started."""
        if not self.gone:
            if self._chunked:
                data = b"%x\r\n%b\r\n" % (len(data), data)
            self._connection.transport.write(data)

    def end(self) -> None:
        """Ends an answer that was started."""
        if self._chunked and not self.gone:
            self._connection.transport.write(b"0\r\n\r\n")
        self._finish()

    def abort(self) -> None:
        """Ends the connection at once."""
        self._connection.transport.abort()

    def on_flow(self, pause: Callable[[], object], resume: Callable[[], object]) -> None:
        """Has the calls made when the client reads too slowly, and when it has caught up."""
        self._on_flow = (pause, resume)
        if self._connection.write_paused:
            pause()

    # to the connection

    def body_arrived(self, data: bytes) -> None:
        """The next bytes of the request's body."""
        if self.complete:
            return  # Read to its end and dropped, so that the client can read its refusal.
        self._size += len(data)
        if self._size > self._limit_bytes:
            if self._limit_bytes != _UNASKED_BYTES or self._waiter is not None:
                self._wake()
                return
            self._connection.pause_reading()
        if not self._body:
            self._body = data
        else:  # Not a list: a hostile client sends a byte a chunk.
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += data

    def body_ended(self) -> None:
        """The request's body has come to its end."""
        self._whole = True
        self._wake()

    def lost(self) -> None:
        """The connection has ended, or what came on it was no HTTP."""
        if not self.gone and not self.complete:
            self.gone = True
            self._wake()
            if self.cancels:
                self.task.cancel()

    def flow_paused(self) -> None:
        """The connection takes no more for now."""
        if self._on_flow is not None:
            self._on_flow[0]()

    def flow_resumed(self) -> None:
        """The connection takes more again."""
        if self._on_flow is not None:
            self._on_flow[1]()

    # inside

    async def _wait_for_body(self, timeout_s: float) -> None:
        if self._expects_100:
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._connection.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._waiter
        except TimeoutError:
            raise RequestTimeout(f"The request body did not come within {timeout_s:g} s.") from None
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _write_head(self, status: int, rest: bytes) -> None:
        self.started = True
        if self.gone:
            return
        connection = self._connection
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        head = _STATUS_LINES[status] + connection.default_headers() + closing
        connection.transport.write(head + rest)

    def _finish(self) -> None:
        self.complete = True
        self._on_flow = None
        self._body = b""  # The connection may live on for long.
        if not self.gone:
            self._connection.answered()
