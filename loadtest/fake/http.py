"""A small HTTP/1.1 server on httptools that can stop, stall and break off wherever it is told."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import cast
from urllib.parse import urlsplit

import httptools

LAST_CHUNK = b"0\r\n\r\n"


def head_bytes(status: int, content_type: str | None, length: int | None) -> bytes:
    """The status line and headers; without a length the body is chunked."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "server: uvicorn"]
    if content_type is not None:
        lines.append(f"content-type: {content_type}")
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return "\r\n".join([*lines, framing, "", ""]).encode()


def chunk_bytes(data: bytes, size: int) -> bytes:
    """One chunk of a chunked body; size: as it will be when it is sent."""
    return b"%x\r\n%s\r\n" % (size, data)


class Exchange:
    """One request and the answer to it, written piece by piece."""

    def __init__(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
        self.method = method
        self.path = urlsplit(target).path
        self.headers = headers
        """Names in lower case."""
        self.body = body
        self.status: int | None = None
        """Of the answer, once its head is sent."""
        self.dropped = False
        """The server itself broke the connection off."""
        self._transport: asyncio.Transport | None = None
        self._room = asyncio.Event()
        self._room.set()

    def head(self, status: int, content_type: str | None, length: int | None) -> None:
        """Send the status line and headers; without a length the body is chunked."""
        self.status = status
        self.raw(head_bytes(status, content_type, length))

    def answer(self, status: int, body: bytes, content_type: str | None = None) -> None:
        """Send a whole answer."""
        self.head(status, content_type, len(body))
        self.raw(body)

    async def chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body; waits while the client reads too slowly."""
        self.raw(chunk_bytes(data, len(data)))
        await self._room.wait()

    def end(self) -> None:
        """Finish a chunked body."""
        self.raw(LAST_CHUNK)

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def drop(self) -> None:
        """Send what is written, then close the connection without ending the answer."""
        self.dropped = True
        if self._transport is not None:
            self._transport.close()


Handler = Callable[[Exchange], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client: requests are answered in order; when it leaves, the handler is cancelled."""

    def __init__(self, handle: Handler, connections: set["Connection"]) -> None:
        self._handle = handle
        self._connections = connections
        self._reading = False
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._target, self._body = b"", bytearray()
        self._headers: dict[str, str] = {}
        self.transport: asyncio.Transport | None = None

    @property
    def idle(self) -> bool:
        """No request is half read, waits or is being answered."""
        return not self._reading and (self._task is None or self._task.done())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self.transport is not None:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        if self._current is not None:
            self._current._room.clear()

    def resume_writing(self) -> None:
        if self._current is not None:
            self._current._room.set()

    def on_message_begin(self) -> None:
        self._reading = True
        self._target, self._body, self._headers = b"", bytearray(), {}

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        self._reading = False
        method = self._parser.get_method().decode()
        target = self._target.decode("latin-1")
        exchange = Exchange(method, target, self._headers, bytes(self._body))
        exchange._transport = self.transport
        self._waiting.append(exchange)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        while self._waiting:
            self._current = self._waiting.popleft()
            await self._handle(self._current)


class Server:
    """A listening server; `port` is the real one when 0 was asked for."""

    def __init__(self, server: asyncio.Server, connections: set[Connection]) -> None:
        self._server = server
        self._connections = connections
        self.port: int = server.sockets[0].getsockname()[1]

    def drop_connections(self, but: Exchange) -> None:
        """Break off every connection except the one of `but`."""
        for connection in list(self._connections):
            transport = connection.transport
            if transport is not None and transport is not but._transport:
                transport.abort()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self._server:
            await self._server.serve_forever()


Connect = Callable[[Handler, set[Connection]], Connection]


async def listen(
    handle: Handler, host: str, port: int, connect: Connect = Connection, backlog: int = 1024
) -> Server:
    """Listen and answer each request by `handle`, or as `connect`'s connections do."""
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: connect(handle, connections), host, port, backlog=backlog
    )
    return Server(server, connections)
