"""When a connection is closed: on a clock that only the test moves, and a wire that it reads from.

The guard is the real one; sockets are in `test_http_guard` and `test_relay_lane`.
"""

import asyncio
import contextlib
import gc
import inspect
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.client import Client, ClientGone
from gateway.http_guard import GuardedProtocol, guarded_protocol
from tests.memory_loop import MemoryLoop

HEADERS_S, CLIENT_S, KEEP_ALIVE_S = 10.0, 60.0, 75
HIGH_BYTES, LOW_BYTES = 65_536, 16_384
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
ANSWERED = b"POST /answered HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
REFUSED = b"POST /answered HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n"
LATE = ANSWERED.replace(b"/answered", b"/late")
LARGE = ANSWERED.replace(b"/answered", b"/large")
LAST = LARGE.replace(b"host: x", b"connection: close")
LATE_S = 1000.0
LARGE_BYTES = 10 * HIGH_BYTES
Scenario = Callable[..., Coroutine[Any, Any, None]]


class Wire(asyncio.Transport):
    """A transport whose other end takes what the test lets it take."""

    def __init__(self, protocol: GuardedProtocol, room_bytes: int) -> None:
        super().__init__()
        self._protocol = protocol
        self._room_bytes = room_bytes
        self._unread_bytes = 0
        self._paused = False
        self._closing = False
        self.lost_s: float | None = None
        """When the connection ended."""
        self.ended = asyncio.Event()
        self.aborted = False
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.lost_s is not None:
            return
        self.sent += bytes(data)
        self._unread_bytes += len(data)
        self.take(min(self._room_bytes, self._unread_bytes))
        if not self._paused and self._unread_bytes > HIGH_BYTES:
            self._paused = True
            self._protocol.pause_writing()

    def take(self, size_bytes: int) -> None:
        """The client reads."""
        self._unread_bytes -= size_bytes
        self._room_bytes -= size_bytes
        if self._paused and self._unread_bytes <= LOW_BYTES:
            self._paused = False
            self._protocol.resume_writing()
        if self._closing and not self._unread_bytes:
            self._lose()

    def read(self, size_bytes: int) -> None:
        """The client reads so much, or what there is."""
        self._room_bytes += size_bytes
        self.take(min(self._room_bytes, self._unread_bytes))

    def get_write_buffer_size(self) -> int:
        return self._unread_bytes

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        self._closing = True
        if not self._unread_bytes:
            self._lose()

    def abort(self) -> None:
        self._closing = self.aborted = True
        self._lose()

    def _lose(self) -> None:
        if self.lost_s is None:
            loop = asyncio.get_running_loop()
            self.lost_s = loop.time()
            self.ended.set()
            loop.call_soon(self._protocol.connection_lost, None)


class Connection:
    """One connection to the guard. Times are seconds since it was opened."""

    def __init__(self, room_bytes: int) -> None:
        self.served = 0

        async def answered(client: Client) -> None:
            self.served += 1
            client.answer(b"", b"ok")

        async def late(client: Client) -> None:
            with contextlib.suppress(ClientGone):
                await client.body(100, LATE_S)
                await asyncio.sleep(LATE_S)
                client.answer(b"", b"ok")

        async def large(client: Client) -> None:
            client.answer(b"", b"x" * LARGE_BYTES)

        served = {"/answered": answered, "/late": late, "/large": large}
        lane = {(b"POST", path.encode()): handler for path, handler in served.items()}
        guard: Any = guarded_protocol(HEADERS_S, client_s=CLIENT_S, lane=lane)
        config = Config(
            _app,
            http=guard,
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self.state = ServerState()
        self.protocol = guard(config, self.state, {})
        self.wire = Wire(self.protocol, room_bytes)
        self.protocol.connection_made(self.wire)

    async def say(self, data: bytes) -> None:
        """The client sends; what is served at once is answered on return."""
        if self.wire.lost_s is None:
            self.protocol.data_received(data)
        for _ in range(10):
            await asyncio.sleep(0)

    async def closed_s(self) -> float:
        """When it ended, by itself."""
        await self.wire.ended.wait()
        assert self.wire.lost_s is not None
        return self.wire.lost_s


async def _app(scope: Any, receive: Any, send: Any) -> None:
    while scope["path"] != "/refused" and (await receive())["more_body"]:
        pass
    if scope["path"] == "/late":
        await asyncio.sleep(LATE_S)
    body = b"x" * LARGE_BYTES if scope["path"] == "/large" else b"ok"
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def on_the_clock(room_bytes: int = 2**30) -> Callable[[Scenario], Callable[..., None]]:
    """Makes a test of a scenario with one connection, of which nothing is left in the end."""

    def decorate(scenario: Scenario) -> Callable[..., None]:
        async def run(**given: Any) -> None:
            connection = Connection(room_bytes)
            await scenario(connection, **given)
            connection.wire.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not connection.state.tasks
            assert not connection.state.connections
            protocol = weakref.ref(connection.protocol)
            del connection
            gc.collect()
            assert protocol() is None, "a timer or a task still holds the connection"

        def test(**given: Any) -> None:
            with asyncio.Runner(loop_factory=MemoryLoop) as runner:
                runner.run(run(**given))

        test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
        parameters = list(inspect.signature(scenario).parameters.values())[1:]
        test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return test

    return decorate


@pytest.mark.parametrize("requests", [[ANSWERED], [GET], [ANSWERED, GET], [GET, ANSWERED]])
@on_the_clock()
async def test_an_idle_connection_is_closed_after_its_time(
    connection: Connection, requests: list[bytes]
) -> None:
    for request in requests:
        await connection.say(request)
    assert await connection.closed_s() == KEEP_ALIVE_S


@pytest.mark.parametrize("first", [ANSWERED, GET])
@pytest.mark.parametrize("second", [ANSWERED, GET])
@on_the_clock()
async def test_the_time_begins_again_with_each_answer(
    connection: Connection, first: bytes, second: bytes
) -> None:
    for request in (first, second, first, second):
        await connection.say(request)
        await asyncio.sleep(50)
    assert await connection.closed_s() == 150 + KEEP_ALIVE_S


@pytest.mark.parametrize("first", [ANSWERED, GET, b""])
@pytest.mark.parametrize("second", [LATE, LATE.replace(b"POST", b"GET")])
@on_the_clock()
async def test_no_time_runs_out_while_an_answer_is_owed(
    connection: Connection, first: bytes, second: bytes
) -> None:
    await connection.say(first)
    await connection.say(second)
    assert await connection.closed_s() == LATE_S + KEEP_ALIVE_S
    assert connection.wire.sent.endswith(b"ok")


@pytest.mark.parametrize("refused", [REFUSED, REFUSED.replace(b"POST /answered", b"GET /refused")])
@on_the_clock()
async def test_a_refused_body_has_its_time_and_then_the_connection_idles(
    connection: Connection, refused: bytes
) -> None:
    await connection.say(refused)
    for _ in range(9):
        await asyncio.sleep(1)
        await connection.say(b"x")
    assert connection.wire.sent.endswith(b"ok")
    assert await connection.closed_s() == 9 + KEEP_ALIVE_S


@pytest.mark.parametrize("refused", [REFUSED, REFUSED.replace(b"POST /answered", b"GET /refused")])
@on_the_clock()
async def test_a_refused_body_that_trickles_on_ends_the_connection(
    connection: Connection, refused: bytes
) -> None:
    await connection.say(refused)
    for _ in range(4):
        await asyncio.sleep(2.4)
        await connection.say(b"x")
    assert await connection.closed_s() == HEADERS_S


@pytest.mark.parametrize("before", [[], [ANSWERED], [GET]])
@pytest.mark.parametrize("begin", [b"G", b"\r\n", b"POST /answered HTTP/1.1\r\nhost:"])
@on_the_clock()
async def test_a_request_that_began_is_to_come_in_time(
    connection: Connection, before: list[bytes], begin: bytes
) -> None:
    for request in before:
        await connection.say(request)
    if before:
        await asyncio.sleep(50)
    await connection.say(begin)
    assert await connection.closed_s() == 50 * len(before) + HEADERS_S


@pytest.mark.parametrize("request_", [LARGE, LARGE.replace(b"POST", b"GET"), LAST])
@on_the_clock(room_bytes=100)
async def test_a_slow_reader_gets_all_of_a_large_answer(
    connection: Connection, request_: bytes
) -> None:
    """Which lies in the transport whole, so that its pause ends long after it began."""
    await connection.say(request_)
    while connection.wire.get_write_buffer_size():
        await asyncio.sleep(CLIENT_S - 1)
        connection.wire.read(HIGH_BYTES + 2000)
    assert not connection.wire.aborted
    assert connection.wire.sent.endswith(b"x" * LARGE_BYTES)


@pytest.mark.parametrize("request_", [LARGE, LARGE.replace(b"POST", b"GET"), LAST])
@pytest.mark.parametrize("read_bytes", [0, 1, HIGH_BYTES // 60])
@on_the_clock(room_bytes=100)
async def test_a_client_that_reads_next_to_nothing_is_let_go(
    connection: Connection, request_: bytes, read_bytes: int
) -> None:
    await connection.say(request_)
    for _ in range(int(CLIENT_S) - 1):
        await asyncio.sleep(1)
        connection.wire.read(read_bytes)
    assert await connection.closed_s() == CLIENT_S
    assert connection.wire.aborted


@pytest.mark.parametrize("left_bytes", [1, LOW_BYTES, HIGH_BYTES])
@on_the_clock(room_bytes=100)
async def test_the_rest_of_a_last_answer_is_not_waited_for_without_end(
    connection: Connection, left_bytes: int
) -> None:
    await connection.say(LAST)
    connection.wire.read(connection.wire.get_write_buffer_size() - left_bytes)
    await connection.closed_s()
    assert connection.wire.aborted


@pytest.mark.parametrize("request_", [ANSWERED, GET])
@on_the_clock(room_bytes=10)
async def test_the_rest_of_a_small_last_answer_is_not_waited_for_either(
    connection: Connection, request_: bytes
) -> None:
    await connection.say(request_.replace(b"host: x", b"connection: close"))
    assert await connection.closed_s() == CLIENT_S
    assert connection.wire.aborted


@on_the_clock(room_bytes=10)
async def test_a_broken_body_is_told_at_once_though_its_refusal_is_not_read(
    connection: Connection,
) -> None:
    chunked = LATE.replace(b"content-length: 0", b"transfer-encoding: chunked")
    await connection.say(chunked)
    assert connection.state.tasks
    await connection.say(b"zz\r\n")
    assert not connection.state.tasks
    assert await connection.closed_s() == CLIENT_S


@on_the_clock(room_bytes=10)
async def test_the_rest_of_an_answer_is_not_waited_for_beyond_the_idle_time(
    connection: Connection,
) -> None:
    """It is so little that the transport never paused."""
    await connection.say(ANSWERED)
    assert await connection.closed_s() == KEEP_ALIVE_S + CLIENT_S
    assert connection.wire.aborted


@on_the_clock(room_bytes=100)
async def test_an_answer_that_was_read_leaves_no_limit_behind(connection: Connection) -> None:
    await connection.say(LARGE)
    connection.wire.read(2**30)
    await connection.say(LATE)
    assert await connection.closed_s() == LATE_S + KEEP_ALIVE_S


@on_the_clock(room_bytes=100)
async def test_who_asks_again_before_it_read_gets_the_rest_and_the_end(
    connection: Connection,
) -> None:
    await connection.say(LARGE)
    await connection.say(ANSWERED)
    assert connection.wire.lost_s is None
    connection.wire.read(2**30)
    assert connection.wire.lost_s == 0
    assert connection.wire.sent.endswith(b"x" * LARGE_BYTES)


@on_the_clock()
async def test_a_client_gone_before_its_request_is_served_is_served_all_the_same(
    connection: Connection,
) -> None:
    """By the one that counts and logs it."""
    connection.protocol.data_received(ANSWERED)
    connection.wire.abort()
    await connection.say(b"")
    assert connection.served == 1
    assert connection.wire.sent == b""
