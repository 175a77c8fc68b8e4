"""One HTTP/1.1 connection, one exchange at a time."""

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from loadtest.client.clock import Clock
from loadtest.client.exchange import Exchange
from loadtest.client.sse import EventStream
from loadtest.samples import Outcome

_HEADER_BYTES = 65_536
_INTERIM = (100, 102, 103)


class Connection(asyncio.Protocol):
    """Hands what it reads to the exchange that is under way, a read's chunks joined.

    Of a stream, a read that is just one whole chunk with one token event goes past the parser: it
    stands between two chunks before it, and would after it.
    """

    __slots__ = (
        "_events",
        "_exchange",
        "_headed",
        "_header_bytes",
        "_keep_alive",
        "_lost",
        "_now",
        "_parser",
        "_parts",
        "_sized",
        "_transport",
        "_whole",
        "closed",
        "on_body",
        "uses",
    )  # fmt: skip

    def __init__(self, clock: Clock, lost: Callable[["Connection"], None]) -> None:
        self._now = clock.now
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._events: EventStream | None = None
        """Takes whole chunks; None where the parser stands elsewhere than between two."""
        self._parts: list[bytes] = []
        # The parser looks its callbacks up once, and calls this one for every chunk.
        self.on_body = self._parts.append
        self._parser: httptools.HttpResponseParser | None = None
        self._header_bytes = 0
        self._sized = self._headed = self._whole = self._keep_alive = False
        self.closed = False
        self.uses = 0
        """How many requests it has carried."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        events = self._events
        if events is None or not events.take_chunk(data, self._now()):
            self._read(data)

    def eof_received(self) -> None:
        """The server sends no more; asyncio closes the connection next."""
        if (exchange := self._exchange) is not None and self._headed and not self._sized:
            self._end(exchange, self._now())  # A body without a length ends with its connection.

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.closed = True
        self._parser = None  # It holds the callbacks: a circle that only the collector would find.
        self._fail("connection", "reset" if isinstance(exc, ConnectionError) else "closed early")
        self._lost(self)

    # httptools callbacks, where what they raise stops the parsing

    def on_message_begin(self) -> None:
        if self._whole:
            raise ValueError("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > _HEADER_BYTES:
            raise ValueError("headers too large")
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._sized = True
        if self._exchange is not None and not self._headed:
            self._exchange.header(name, value)

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status in _INTERIM and not self._headed:
            return
        self._headed = True
        if self._exchange is not None:
            self._exchange.status = status

    def on_message_complete(self) -> None:
        if self._headed and self._parser is not None:
            self._whole = True
            self._keep_alive = self._parser.should_keep_alive()

    # the client's side

    def send(self, request: bytes, exchange: Exchange) -> None:
        """Sends a request; the exchange's `done` tells of its end."""
        if self._transport is None or self.closed:
            exchange.fail("connection", "closed early", self._now())
            return
        self._header_bytes = 0
        self._sized = self._headed = self._whole = self._keep_alive = False
        self._exchange, self._events = exchange, None
        self.uses += 1
        self._transport.write(request)

    def reusable(self) -> bool:
        """Whether the next request may use the connection."""
        return (
            self._exchange is None
            and self._keep_alive
            and not self.closed
            and self._transport is not None
            # A server that answered before it had read the request is out of step.
            and not self._transport.get_write_buffer_size()
        )

    def abort(self) -> None:
        """Closes it at once; what is under way fails."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # inside

    def _read(self, data: bytes) -> None:
        exchange, self._events = self._exchange, None
        if exchange is None or self._parser is None:
            self.abort()  # Nobody asked: what follows could pass for the next answer.
            return
        now_s = exchange.heard_s = self._now()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._keep_alive = False
            if not self._whole:
                self._take_body(exchange, now_s)
                self._fail("bad_answer", "not HTTP")
                return
        body = self._take_body(exchange, now_s)
        if self._whole:
            self._end(exchange, now_s)
        elif body.endswith(b"\n\n") and data.endswith(b"\n\n\r\n"):
            # That line's end is none of the body's: it was the end of a chunk.
            self._events = exchange.takes_chunks()

    def _take_body(self, exchange: Exchange, now_s: float) -> bytes:
        """Returns what there was of it."""
        if not (parts := self._parts):
            return b""
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        exchange.body(body, now_s)
        return body

    def _end(self, exchange: Exchange, now_s: float) -> None:
        self._exchange = self._events = None
        exchange.end(now_s)

    def _fail(self, outcome: Outcome, error: str) -> None:
        if (exchange := self._exchange) is not None:
            self._exchange = self._events = None
            exchange.fail(outcome, error, self._now())
        self.abort()
