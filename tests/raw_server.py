"""A TCP server that says exactly the bytes a test wants, for faults no HTTP library would make."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_LEFT = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)
"""How a client's end shows."""


@dataclass
class RawServer:
    """url: where it listens. connections: how many were accepted."""

    url: str
    connections: int = 0


@contextlib.asynccontextmanager
async def raw_server(
    handler: Handler, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serves each connection with `handler` until the block ends."""
    found = RawServer("")

    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.connections += 1
        try:
            with contextlib.suppress(*_LEFT):
                await handler(reader, writer)
        finally:
            writer.close()
        with contextlib.suppress(*_LEFT):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    found.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
        # Each handler gets its end: the client has closed, or is about to.
        pending = (await asyncio.wait(tasks, timeout=2))[1] if tasks else set()
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request: its head and its body by content-length."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            head += await reader.readexactly(int(line.split(b":")[1]))
    return head
