"""An event loop with an engine in memory, whose time passes only when nothing else can happen.

A test on it needs no sockets and no sleeps; one that waits for what never comes fails at once.
"""

import asyncio
import collections
import inspect
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec

from gateway.upstream import Upstream

P = ParamSpec("P")

ENGINE = "http://engine"
_LONGEST_S = 10_000


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: what would be waited is added to the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            if timeout is None or self.now_s > _LONGEST_S:
                raise AssertionError("what is awaited never comes")
            self.now_s += timeout
        return ready


class MemoryConnection(asyncio.Transport):
    """Both sides of one connection: the transport that the client holds, and the engine's hand."""

    def __init__(self, loop: "MemoryLoop", protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._on_the_way: collections.deque[bytes | Exception | None] = collections.deque()
        self.reading = True
        self.closed = False
        """Whether the client's side is."""
        self.unsent_bytes = 0
        """What the engine has not taken of a request."""

    # the engine's side

    def say(self, *packets: bytes) -> None:
        """Each packet is one read of the client's, unless it has paused."""
        self._on_the_way.extend(packets)
        self._deliver()

    def hang_up(self) -> None:
        """Closes in order, after all that was said."""
        self._on_the_way.append(None)
        self._deliver()

    def reset(self) -> None:
        """Breaks off, after all that was said."""
        self._on_the_way.append(ConnectionResetError("reset"))
        self._deliver()

    def _deliver(self) -> None:
        while self._on_the_way and self.reading and not self.closed:
            news = self._on_the_way.popleft()
            if isinstance(news, bytes):
                self._protocol.data_received(news)
            elif news is None:
                self._protocol.eof_received()
                if not self.unsent_bytes:  # Else it would be sent first, as asyncio does.
                    self._close(None)
            else:
                self._close(news)

    # asyncio.Transport, as far as the client uses it

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self._loop.call_soon(self._loop.engine, self, bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self._loop.call_soon(self._deliver)

    def abort(self) -> None:
        self._close(None)

    def _close(self, exc: Exception | None) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._protocol.connection_lost, exc)


Engine = Callable[[MemoryConnection, bytes], None]
"""Called with every request as it was written."""


class MemoryLoop(asyncio.SelectorEventLoop):
    """Every connection that is opened on it leads to `engine`.

    accept: called with a connection once it is made, before the client hears of it.
    reachable: whether connecting ever ends.
    """

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)
        self.engine: Engine = lambda connection, request: None
        self.accept: Callable[[MemoryConnection], None] = lambda connection: None
        self.reachable = True
        self.connections: list[MemoryConnection] = []
        self.made: collections.Counter[str] = collections.Counter()
        """How many tasks, futures, timers and callbacks were asked for."""

    def time(self) -> float:
        return self._clock.now_s

    # asyncio.AbstractEventLoop: what the client uses, and what is counted

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *where: object, **how: object
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        if not self.reachable:
            await self.create_future()
        protocol = protocol_factory()
        connection = MemoryConnection(self, protocol)
        self.connections.append(connection)
        protocol.connection_made(connection)
        self.accept(connection)
        await asyncio.sleep(0)
        return connection, protocol

    def create_future(self) -> asyncio.Future[Any]:
        self.made["futures"] += 1
        return super().create_future()

    def create_task(self, *args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        self.made["tasks"] += 1
        return super().create_task(*args, **kwargs)

    def call_soon(self, *args: Any, **kwargs: Any) -> asyncio.Handle:  # type: ignore[override]
        self.made["callbacks"] += 1
        return super().call_soon(*args, **kwargs)

    def call_at(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        # call_later calls it too.
        self.made["timers"] += 1
        return super().call_at(*args, **kwargs)


def in_memory(
    scenario: Callable[Concatenate[MemoryLoop, Upstream, P], Coroutine[Any, Any, None]],
) -> Callable[P, None]:
    """Makes a test of a scenario: it is run on a loop of its own, and must leave nothing open."""

    async def run(*args: P.args, **kwargs: P.kwargs) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MemoryLoop)
        upstream = Upstream(ENGINE, connect_s=5)
        await scenario(loop, upstream, *args, **kwargs)
        await upstream.close()
        assert upstream.open_connections == 0
        assert all(connection.closed for connection in loop.connections)

    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=MemoryLoop) as runner:
            runner.run(run(*args, **kwargs))

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    given = list(inspect.signature(scenario).parameters.values())[2:]
    test.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]  # pytest reads it
    return test
