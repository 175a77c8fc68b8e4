"""The hot path's HTTP client, moment by moment: limits, timeouts, pauses, ends."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.upstream import (
    BadResponse,
    CannotConnect,
    ConnectionLost,
    Response,
    Upstream,
    UpstreamTimeout,
)
from tests.memory_loop import Engine, MemoryConnection, MemoryLoop, in_memory
from tests.upstream_calls import CHUNKED, OK, WAYS, answer_to, ask, body_of

SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"


def saying(*packets: bytes) -> Engine:
    """Answers every request with `packets`, one read each."""
    return lambda connection, request: connection.say(*packets)


def cut_up(wire: bytes, size: int) -> list[bytes]:
    return [wire[at : at + size] for at in range(0, len(wire), size)]


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


async def begun(loop: MemoryLoop, upstream: Upstream, *packets: bytes) -> Response:
    """A response of which so much has come."""
    loop.engine = saying(*packets)
    return await ask(upstream)


async def say_slowly(loop: MemoryLoop, packets: Sequence[bytes], every_s: float) -> None:
    for packet in packets:
        await asyncio.sleep(every_s)
        loop.connections[-1].say(packet)


# what a chunk costs


@in_memory
async def test_a_chunk_makes_no_task_future_timer_or_callback(
    loop: MemoryLoop, upstream: Upstream
) -> None:
    came: list[bytes] = []
    with await begun(loop, upstream, CHUNKED) as response:
        pipe = asyncio.create_task(response.pipe(came.append, 5))
        await asyncio.sleep(0)
        before = loop.made.copy()
        loop.connections[0].say(*[chunk(b"%d" % n) for n in range(10_000)])
        assert loop.made == before
        assert came == [b"%d" % n for n in range(10_000)]
        loop.connections[0].say(b"0\r\n\r\n")
        assert loop.made - before == {"callbacks": 1}  # The end wakes the pipe.
        await pipe


@in_memory
async def test_chunks_that_came_together_are_handed_on_together(
    loop: MemoryLoop, upstream: Upstream
) -> None:
    came: list[bytes] = []
    with await begun(loop, upstream, CHUNKED) as response:
        pipe = asyncio.create_task(response.pipe(came.append, 5))
        await asyncio.sleep(0)
        loop.connections[0].say(chunk(b"a") + chunk(b"b"), chunk(b"c"), b"0\r\n\r\n")
        await pipe
    assert came == [b"ab", b"c"]


# limits


@pytest.mark.parametrize("size", [1_000, 10**9])
@pytest.mark.parametrize(
    "headers",
    [
        b"x: " + b"y" * 70_000 + b"\r\n",
        b"".join(b"x-%d: y\r\n" % n for n in range(7_000)),
        b"a:\r\n" * 14_000,
    ],
    ids=["large", "many", "empty"],
)
@in_memory
async def test_headers_over_the_limit_are_refused_in_one_packet_or_in_many(
    loop: MemoryLoop, upstream: Upstream, headers: bytes, size: int
) -> None:
    loop.engine = saying(*cut_up(OK.replace(b"content-type", headers + b"content-type"), size))
    with pytest.raises(BadResponse):
        await ask(upstream)


@pytest.mark.parametrize("size", [1_000, 10**9])
@in_memory
async def test_headers_under_the_limit_are_taken(
    loop: MemoryLoop, upstream: Upstream, size: int
) -> None:
    headers = b"".join(b"x-%d: y\r\n" % n for n in range(6_000))
    loop.engine = saying(*cut_up(OK.replace(b"content-type", headers + b"content-type"), size))
    with await ask(upstream) as response:
        assert len(response.headers) == 6_002
        assert await body_of(response) == b"hello"


@pytest.mark.parametrize(
    "again",
    [b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n"],
    ids=["hints", "continue", "lines"],
)
@in_memory
async def test_what_comes_before_the_answer_is_limited(
    loop: MemoryLoop, upstream: Upstream, again: bytes
) -> None:
    loop.engine = saying(*[again * 100] * 1_000)
    with pytest.raises(BadResponse):
        await ask(upstream)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"0\r\n", b"x: y\r\n"),
        (b"0\r\nx: ", b"y"),
        (b"0\r\n", b"y"),
        (b"1;", b"x"),
        (b"1;x=", b"y"),
        (b'1;x="', b"y"),
        (b"", b"0"),
    ],
    ids=["trailers", "trailer", "trailer's name", "extension", "value", "quoted", "size"],
)
@in_memory
async def test_what_comes_between_the_bytes_of_a_body_is_limited(
    loop: MemoryLoop, upstream: Upstream, begin: bytes, again: bytes, way: str
) -> None:
    head = CHUNKED + chunk(b"abc")
    response = await begun(loop, upstream, head + begin, *[again * 1_000] * 1_000)
    with response, pytest.raises(BadResponse):
        await body_of(response, way)


@in_memory
async def test_framing_is_not_counted_against_a_long_stream(
    loop: MemoryLoop, upstream: Upstream
) -> None:
    """Each chunk's size, bytes and line end in a packet of its own."""
    packets = [b"1\r\n", b"x", b"\r\n"] * 50_000
    with await begun(loop, upstream, CHUNKED, *packets, b"0\r\n\r\n") as response:
        assert await body_of(response) == b"x" * 50_000


@in_memory
async def test_trailers_are_no_headers(loop: MemoryLoop, upstream: Upstream) -> None:
    loop.engine = saying(CHUNKED, chunk(b"abc"), b"0\r\nx-late: yes\r\n\r\n")
    for _ in range(2):
        with await ask(upstream) as response:
            assert await body_of(response) == b"abc"
            assert response.headers == [(b"transfer-encoding", b"chunked")]
    assert len(loop.connections) == 1


@pytest.mark.parametrize("size", [1, 7, 10**9])
@in_memory
async def test_a_body_is_read_up_to_its_limit(
    loop: MemoryLoop, upstream: Upstream, size: int
) -> None:
    loop.engine = saying(*cut_up(OK, size))
    with await ask(upstream) as response:
        assert await response.read(5, 5) == b"hello"
    with await ask(upstream) as response, pytest.raises(BadResponse):
        await response.read(5, 4)
    assert loop.connections[0].closed


@pytest.mark.parametrize("way", WAYS)
@in_memory
async def test_a_body_that_nobody_reads_is_held_within_bounds(
    loop: MemoryLoop, upstream: Upstream, way: str
) -> None:
    piece = bytes(65_536)
    with await begun(loop, upstream, SIZED + piece) as response:
        connection = loop.connections[0]
        said = 0
        while connection.reading:
            connection.say(piece)
            said += 1
        assert said <= 4  # 256 KiB, and the packet that went over it.
        connection.say(bytes(1_000_000 - (said + 1) * len(piece)))
        assert await body_of(response, way) == bytes(1_000_000)
    assert upstream.open_connections == 1
    assert not connection.closed


# timeouts


@in_memory
async def test_connecting_is_limited(loop: MemoryLoop, upstream: Upstream) -> None:
    loop.reachable = False
    with pytest.raises(CannotConnect):
        await ask(upstream)
    assert loop.time() == 5


@in_memory
async def test_connecting_is_cancelled(loop: MemoryLoop, upstream: Upstream) -> None:
    loop.reachable = False
    call = asyncio.create_task(ask(upstream))
    await asyncio.sleep(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert loop.time() == 1


@pytest.mark.parametrize("again", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: yyyy"])
@in_memory
async def test_a_dribbling_head_does_not_extend_the_first_byte(
    loop: MemoryLoop, upstream: Upstream, again: bytes
) -> None:
    loop.engine = lambda connection, request: None
    call = asyncio.create_task(ask(upstream, first_byte_s=10))
    await asyncio.sleep(0)
    slowly = asyncio.create_task(say_slowly(loop, cut_up(again, 1), 0.5))
    with pytest.raises(UpstreamTimeout):
        await call
    assert loop.time() == 10
    await slowly


@pytest.mark.parametrize("way", WAYS)
@in_memory
async def test_a_dribbling_body_extends_its_silence_and_no_more(
    loop: MemoryLoop, upstream: Upstream, way: str
) -> None:
    with await begun(loop, upstream, SIZED) as response:
        slowly = asyncio.create_task(say_slowly(loop, [b"x"] * 20, 4))
        with pytest.raises(UpstreamTimeout):
            await body_of(response, way, idle_s=5)
        assert loop.time() == pytest.approx(85)
        await slowly


@pytest.mark.parametrize("way", WAYS)
@in_memory
async def test_framing_alone_does_not_end_a_silence(
    loop: MemoryLoop, upstream: Upstream, way: str
) -> None:
    with await begun(loop, upstream, CHUNKED + b"1;") as response:
        slowly = asyncio.create_task(say_slowly(loop, [b"x"] * 4, 2))
        with pytest.raises(UpstreamTimeout):
            await body_of(response, way, idle_s=5)
        assert loop.time() == pytest.approx(5)
        await slowly


@in_memory
async def test_time_spent_paused_is_no_silence(loop: MemoryLoop, upstream: Upstream) -> None:
    with await begun(loop, upstream, SIZED) as response:
        pipe = asyncio.create_task(response.pipe(lambda _: response.pause(), 5))
        await asyncio.sleep(1)
        loop.connections[0].say(b"x")
        await asyncio.sleep(100)
        assert not pipe.done()
        response.resume()
        resumed_at = loop.time()
        with pytest.raises(UpstreamTimeout):
            await pipe
        assert loop.time() == pytest.approx(resumed_at + 5)


@in_memory
async def test_a_time_between_the_head_and_the_reading_is_no_silence(
    loop: MemoryLoop, upstream: Upstream
) -> None:
    with await begun(loop, upstream, CHUNKED) as response:
        await asyncio.sleep(100)
        slowly = asyncio.create_task(say_slowly(loop, [chunk(b"abc"), b"0\r\n\r\n"], 4))
        assert await body_of(response, idle_s=5) == b"abc"
        await slowly


@in_memory
async def test_a_timer_ends_with_its_wait(loop: MemoryLoop, upstream: Upstream) -> None:
    """On a connection that is kept, none of an earlier call's is left to go off."""
    with await begun(loop, upstream, CHUNKED) as response:
        slowly = asyncio.create_task(say_slowly(loop, [chunk(b"a"), chunk(b"b"), b"0\r\n\r\n"], 4))
        assert await body_of(response, idle_s=5) == b"ab"
        await slowly
    loop.engine = lambda connection, request: None
    call = asyncio.create_task(ask(upstream, first_byte_s=100))
    await asyncio.sleep(98)
    loop.connections[0].say(OK)
    with await call as response:
        assert await body_of(response) == b"hello"


# connections that go away


@pytest.mark.parametrize(
    ("after_s", "said", "requests"),
    [(0.0, b"", 3), (0.9, b"", 3), (1.1, b"", 2), (0.0, b"HTTP", 2), (0.0, b"\r\n", 2)],
)
@in_memory
async def test_a_request_is_sent_again_only_where_the_kept_connection_was_stale(
    loop: MemoryLoop, upstream: Upstream, after_s: float, said: bytes, requests: int
) -> None:
    loop.engine = saying(OK)
    await answer_to(upstream)
    asked = 1

    def fall() -> None:
        loop.connections[0].say(*[said] if said else [])
        loop.connections[0].reset()

    def engine(connection: MemoryConnection, request: bytes) -> None:
        nonlocal asked
        asked += 1
        if connection is loop.connections[0]:
            loop.call_later(after_s, fall)
        else:
            connection.say(OK)

    loop.engine = engine
    if requests == 3:
        assert await answer_to(upstream) == b"hello"
    else:
        with pytest.raises(ConnectionLost):
            await answer_to(upstream)
    assert asked == requests


@pytest.mark.parametrize("way", ["hang up", "reset", "speak"])
@in_memory
async def test_a_connection_that_ends_as_it_begins_is_cannot_connect(
    loop: MemoryLoop, upstream: Upstream, way: str
) -> None:
    loop.accept = {
        "hang up": lambda connection: connection.hang_up(),
        "reset": lambda connection: connection.reset(),
        "speak": lambda connection: connection.say(OK),
    }[way]
    with pytest.raises(CannotConnect):
        await ask(upstream)
    await asyncio.sleep(0)
    assert upstream.open_connections == 0


@in_memory
async def test_an_engine_that_ends_without_taking_the_request_is_not_waited_for(
    loop: MemoryLoop, upstream: Upstream
) -> None:
    def engine(connection: MemoryConnection, request: bytes) -> None:
        connection.unsent_bytes = 1
        connection.hang_up()

    loop.engine = engine
    with pytest.raises(ConnectionLost):
        await ask(upstream)
    assert loop.time() == 0


@in_memory
async def test_a_client_closed_while_it_connects_keeps_nothing(
    loop: MemoryLoop, upstream: Upstream
) -> None:
    loop.engine = saying(OK)
    call = asyncio.create_task(ask(upstream))
    await asyncio.sleep(0)  # It connects.
    assert len(loop.connections) == 1
    await upstream.close()
    with pytest.raises(CannotConnect):
        await call
    await asyncio.sleep(0)
    assert upstream.open_connections == 0
    assert loop.connections[0].closed


@pytest.mark.parametrize("way", WAYS)
@in_memory
async def test_a_body_without_length_is_whole_only_where_the_engine_ended_it(
    loop: MemoryLoop, upstream: Upstream, way: str
) -> None:
    with await begun(loop, upstream, ENDLESS + b"half") as response:
        call = asyncio.create_task(body_of(response, way))
        await asyncio.sleep(0)
        loop.connections[0].reset()
        with pytest.raises(ConnectionLost):
            await call
    with await begun(loop, upstream, ENDLESS + b"whole") as response:
        call = asyncio.create_task(body_of(response, way))
        await asyncio.sleep(0)
        loop.connections[1].hang_up()
        assert await call == b"whole"


@in_memory
async def test_a_connection_lost_while_paused_is_an_error_after_its_bytes(
    loop: MemoryLoop, upstream: Upstream
) -> None:
    came: list[bytes] = []

    def sink(part: bytes) -> None:
        came.append(part)
        response.pause()

    with await begun(loop, upstream, SIZED + b"a") as response:
        pipe = asyncio.create_task(response.pipe(sink, 5))
        await asyncio.sleep(0)
        loop.connections[0].say(b"b")
        loop.connections[0].reset()
        await asyncio.sleep(100)
        assert came == [b"a"]
        response.resume()
        await asyncio.sleep(0)
        assert came == [b"a", b"b"]
        response.resume()
        with pytest.raises(ConnectionLost):
            await pipe


@pytest.mark.parametrize("way", ["timeout", "cancel", "sink"])
@in_memory
async def test_a_pipe_that_ended_calls_its_sink_no_more(
    loop: MemoryLoop, upstream: Upstream, way: str
) -> None:
    came: list[bytes] = []

    def sink(part: bytes) -> None:
        came.append(part)
        if way == "sink":
            raise ValueError(part)

    response = await begun(loop, upstream, SIZED + b"a")
    pipe = asyncio.create_task(response.pipe(sink, 5))
    await asyncio.sleep(0)
    if way == "cancel":
        pipe.cancel()
    with pytest.raises((UpstreamTimeout, ValueError, asyncio.CancelledError)):
        await pipe
    assert loop.connections[0].closed  # Before it is released.
    loop.connections[0].say(b"b")
    assert came == [b"a"]
    response.release()


# who pipes


@pytest.mark.parametrize("call", [1, 2, 3])
@in_memory
async def test_what_a_sink_raises_ends_the_pipe_and_the_connection(
    loop: MemoryLoop, upstream: Upstream, call: int
) -> None:
    """In the body that waited already, in the middle, and with the end."""
    calls = 0

    def sink(_: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise ZeroDivisionError

    with await begun(loop, upstream, CHUNKED + chunk(b"a")) as response:
        pipe = asyncio.create_task(response.pipe(sink, 5))
        await asyncio.sleep(0)
        loop.connections[0].say(chunk(b"b"), chunk(b"c") + b"0\r\n\r\n")
        with pytest.raises(ZeroDivisionError):
            await pipe
    assert calls == call
    assert loop.connections[0].closed


@in_memory
async def test_a_sink_may_pause_and_resume(loop: MemoryLoop, upstream: Upstream) -> None:
    came: list[bytes] = []

    def sink(part: bytes) -> None:
        assert loop.connections[0].reading
        came.append(part)
        response.pause()
        assert not loop.connections[0].reading
        loop.call_later(1, response.resume)

    with await begun(loop, upstream, CHUNKED + chunk(b"0")) as response:
        pipe = asyncio.create_task(response.pipe(sink, 5))
        await asyncio.sleep(0)
        loop.connections[0].say(*[chunk(b"%d" % n) for n in range(1, 20)], b"0\r\n\r\n")
        await pipe
    assert came == [b"%d" % n for n in range(20)]
    assert loop.time() == 20


@in_memory
async def test_a_connection_paused_at_the_end_is_not_used_again(
    loop: MemoryLoop, upstream: Upstream
) -> None:
    """What has come since nobody knows."""
    with await begun(loop, upstream, OK) as response:
        await response.pipe(lambda _: response.pause(), 5)
    assert loop.connections[0].closed


@pytest.mark.parametrize("full", [False, True])
@in_memory
async def test_a_pause_from_before_the_pipe_holds(
    loop: MemoryLoop, upstream: Upstream, full: bool
) -> None:
    """Where the client was slow already; be the buffer full or not."""
    came: list[bytes] = []
    first = bytes(300_000 if full else 3)
    with await begun(loop, upstream, CHUNKED, chunk(first)) as response:
        assert loop.connections[0].reading != full
        response.pause()
        pipe = asyncio.create_task(response.pipe(came.append, 5))
        loop.connections[0].say(chunk(b"abc"), b"0\r\n\r\n")
        await asyncio.sleep(100)
        assert came == [first]
        response.resume()
        await pipe
        assert came == [first, b"abc"]


@in_memory
async def test_a_read_ends_a_pause(loop: MemoryLoop, upstream: Upstream) -> None:
    with await begun(loop, upstream, CHUNKED) as response:
        response.pause()
        response.pause()
        loop.connections[0].say(chunk(b"abc"), b"0\r\n\r\n")
        assert await body_of(response, "read") == b"abc"


@in_memory
async def test_a_release_in_mid_pipe_ends_it(loop: MemoryLoop, upstream: Upstream) -> None:
    response = await begun(loop, upstream, SIZED + b"a")
    with pytest.raises(ConnectionLost):
        await response.pipe(lambda _: response.release(), 5)
    response.pause()
    response.resume()
    assert loop.connections[0].closed


@in_memory
async def test_a_release_while_paused_closes(loop: MemoryLoop, upstream: Upstream) -> None:
    response = await begun(loop, upstream, SIZED + b"a")
    pipe = asyncio.create_task(response.pipe(lambda _: response.pause(), 5))
    await asyncio.sleep(0)
    assert not loop.connections[0].reading
    response.release()
    with pytest.raises(ConnectionLost):
        await pipe


@in_memory
async def test_a_release_with_the_last_byte_takes_nothing_from_the_next_call(
    loop: MemoryLoop, upstream: Upstream
) -> None:
    """The next call begins before the pipe that ends has had its turn."""
    response = await begun(loop, upstream, CHUNKED)
    pipe = asyncio.create_task(response.pipe(lambda _: response.release(), 5))
    await asyncio.sleep(0)
    loop.engine = saying(OK)
    call = asyncio.create_task(answer_to(upstream))
    loop.connections[0].say(chunk(b"abc") + b"0\r\n\r\n")
    await pipe
    assert await call == b"hello"


@in_memory
async def test_a_second_release_takes_nothing_from_the_next_call(
    loop: MemoryLoop, upstream: Upstream
) -> None:
    with await begun(loop, upstream, OK) as first:
        await body_of(first)
    with await begun(loop, upstream, CHUNKED) as second:
        first.release()
        loop.connections[0].say(chunk(b"abc"), b"0\r\n\r\n")
        assert await body_of(second) == b"abc"


@in_memory
async def test_a_released_response_reads_nothing_of_another(
    loop: MemoryLoop, upstream: Upstream
) -> None:
    with await begun(loop, upstream, OK) as first:
        await body_of(first)
    second = await ask(upstream)
    assert len(loop.connections) == 1
    for way in WAYS:
        with pytest.raises(RuntimeError):
            await body_of(first, way)
    first.pause()
    assert loop.connections[0].reading
    second.pause()
    first.resume()
    assert not loop.connections[0].reading
    second.resume()
    assert await body_of(second) == b"hello"
    second.release()


@pytest.mark.parametrize("more", [b"H", b"\r\n", OK])
@pytest.mark.parametrize("when", ["before the body is taken", "before release", "while kept"])
@in_memory
async def test_a_connection_that_says_more_is_closed_at_once(
    loop: MemoryLoop, upstream: Upstream, when: str, more: bytes
) -> None:
    response = await begun(loop, upstream, OK)
    if when == "before the body is taken":
        loop.connections[0].say(more)
    assert await body_of(response) == b"hello"
    if when == "before release":
        loop.connections[0].say(more)
    response.release()
    if when == "while kept":
        loop.connections[0].say(more)
    assert loop.connections[0].closed
    assert await answer_to(upstream) == b"hello"
    assert len(loop.connections) == 2


@in_memory
async def test_an_engine_that_has_not_taken_the_request_is_not_asked_again(
    loop: MemoryLoop, upstream: Upstream
) -> None:
    with await begun(loop, upstream, OK) as response:
        loop.connections[0].unsent_bytes = 1
        assert await body_of(response) == b"hello"
    assert loop.connections[0].closed


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@in_memory
async def test_an_answer_without_a_body_is_whole_with_its_headers(
    loop: MemoryLoop, upstream: Upstream, status: bytes
) -> None:
    loop.engine = saying(b"HTTP/1.1 " + status + b"\r\n\r\n")
    for way in WAYS:
        assert await answer_to(upstream, way) == b""
    (await ask(upstream)).release()
    assert len(loop.connections) == 1
