"""A real uvicorn with the guard and a lane of test handlers, and an eye on its insides."""

import asyncio
import concurrent.futures
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.client import Client, ClientGone
from gateway.errors import GatewayError
from gateway.http_guard import guarded_protocol
from tests.http_server import serving

T = TypeVar("T")

BODY_BYTES = 2**20
"""Largest body that the handlers take."""
BLOCK = b"0123456789abcdef" * 1024
DEADLINE_S = 10.0


@dataclass
class LaneServer:
    """What a test wants of it.

    Lane, all POST: `/echo` answers the body, `/refuse` answers 401 unread, `/hold` takes the body
    and waits for the gate, `/late` waits for the gate and takes the body, `/stream` writes blocks
    for as long as the client keeps up, until the gate opens, `/fail` breaks off.
    All else goes to the application: `/slow` waits for the gate, `/large` answers 8 MiB.
    """

    port: int = 0
    state: ServerState = field(default_factory=ServerState)
    loop: asyncio.AbstractEventLoop | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    clients: list[Client] = field(default_factory=list)
    """Every request that a handler was given, oldest first."""
    ends: list[str] = field(default_factory=list)
    """How handlers ended: a status, `gone`, `cancelled`, `shutdown`."""
    asked: list[str] = field(default_factory=list)
    """The paths that the application was asked for."""
    blocks: int = 0
    """Blocks that `/stream` wrote."""

    def in_loop(self, question: Callable[[], T]) -> T:
        """What `question()` answers on the server's loop."""
        self.wait_for(lambda: self.loop is not None)
        assert self.loop is not None
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()
        self.loop.call_soon_threadsafe(lambda: answer.set_result(question()))
        return answer.result(DEADLINE_S)

    def open_gate(self) -> None:
        """Lets all go on that wait."""
        self.in_loop(self.gate.set)

    def forget(self) -> None:
        """Begins anew."""
        self.gate, self.blocks = asyncio.Event(), 0
        self.clients, self.ends, self.asked = [], [], []

    def tasks(self) -> int:
        """Tasks that exist now."""
        return self.in_loop(lambda: len(asyncio.all_tasks(self.loop)))

    def deaf(self) -> bool:
        """Whether the one connection takes no more requests."""
        return self.in_loop(lambda: [one._deaf for one in self._connections()] == [True])

    def write_paused(self) -> bool:
        """Whether the one connection's client does not read its answer."""
        return self.in_loop(lambda: [one.write_paused for one in self._connections()] == [True])

    def read_paused(self) -> bool:
        """Whether the server takes no more of the one connection's request."""
        return self.in_loop(lambda: [one.flow.read_paused for one in self._connections()] == [True])

    def _connections(self) -> list[Any]:
        return list(self.state.connections)

    def wait_for(self, holds: Callable[[], bool]) -> None:
        """Returns once `holds()` is true."""
        end_s = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < end_s, "it never came"
            time.sleep(0.005)

    def at_rest(self) -> bool:
        """Whether no request is served."""
        return self.in_loop(lambda: not self.state.tasks)

    def idle(self) -> bool:
        """Whether no connection and no task is left."""
        return self.in_loop(lambda: not (self.state.connections or self.state.tasks))

    # handlers

    async def serve(self, handler: Callable[[Client], Awaitable[int]], client: Client) -> None:
        self.clients.append(client)
        client.cancels = True
        try:
            self.ends.append(str(await handler(client)))
        except GatewayError as error:
            self.ends.append(str(error.status))
            client.answer(b"", (error.code or "").encode(), error.status)
        except ClientGone:
            self.ends.append("gone")
        except asyncio.CancelledError:
            if not client.gone:
                self.ends.append("shutdown")
                raise
            client.task.uncancel()
            self.ends.append("cancelled")
        finally:
            client.cancels = False

    async def echo(self, client: Client) -> int:
        body = await client.body(BODY_BYTES, DEADLINE_S)
        client.answer(b"x-kind: lane\r\n", body)
        return 200

    async def impatient(self, client: Client) -> int:
        client.answer(b"", await client.body(BODY_BYTES, 0.2))
        return 200

    async def refuse(self, client: Client) -> int:
        client.answer(b"", b"no", 401)
        return 401

    async def hold(self, client: Client) -> int:
        body = await client.body(BODY_BYTES, DEADLINE_S)
        await self.gate.wait()
        client.answer(b"x-kind: lane\r\n", body)
        return 200

    async def late(self, client: Client) -> int:
        await self.gate.wait()
        body = await client.body(BODY_BYTES, DEADLINE_S)
        client.answer(b"x-kind: lane\r\n", body)
        return 200

    async def large(self, client: Client) -> int:
        client.answer(b"x-kind: lane\r\n", 512 * BLOCK)
        return 200

    async def stream(self, client: Client) -> int:
        flowing = asyncio.Event()
        flowing.set()
        client.start(b"x-kind: lane\r\n")
        client.on_flow(flowing.clear, flowing.set)
        while not self.gate.is_set():
            await flowing.wait()
            client.write(BLOCK)
            self.blocks += 1
            await asyncio.sleep(0)
        client.end()
        return 200

    async def fail(self, client: Client) -> int:
        client.start(b"")
        client.write(b"half")
        raise RuntimeError

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """The application beside the lane."""
        self.asked.append(f"{scope['method']} {scope['path']}")
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/slow":
            await self.gate.wait()
        if scope["path"] == "/large":
            body = 512 * BLOCK
        headers = [(b"content-length", b"%d" % len(body)), (b"x-kind", b"asgi")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def lane_server(
    loop: str = "uvloop",
    *,
    headers_s: float = 30.0,
    client_s: float = 30.0,
    keep_alive_s: float = 30.0,
    **config: Any,
) -> Iterator[LaneServer]:
    """Serves while the block runs. loop: uvloop or asyncio. config: further settings of uvicorn."""
    server = LaneServer()
    handlers = {
        "/echo": server.echo,
        "/refuse": server.refuse,
        "/hold": server.hold,
        "/late": server.late,
        "/stream": server.stream,
        "/fail": server.fail,
        "/impatient": server.impatient,
        "/large": server.large,
    }

    def on_lane(handler: Callable[[Client], Awaitable[int]]) -> Callable[[Client], Any]:
        return lambda client: server.serve(handler, client)

    lane = {(b"POST", path.encode()): on_lane(handler) for path, handler in handlers.items()}
    guard: Any = guarded_protocol(headers_s, client_s=client_s, lane=lane)

    class Watched(guard):  # type: ignore[misc]
        def __init__(
            self, config: Config, server_state: ServerState, app_state: Any, _loop: Any = None
        ) -> None:
            super().__init__(config, server_state, app_state, _loop)
            server.state, server.loop = server_state, self.loop

    settings = {
        "timeout_keep_alive": keep_alive_s,
        "ws": "none",
        "interface": "asgi3",
        **config,
    }
    with serving(server.app, http=Watched, loop=loop, **settings) as server.port:
        yield server
