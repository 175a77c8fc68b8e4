"""The hot path's HTTP client against answers that were cut, bent and broken at random.

Most of it runs in memory, where every packet and every turn of the event loop is chosen; a sample
goes over real sockets. The choices are derived from the code, so every run makes the same ones.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.upstream import Header, Response, Upstream, UpstreamError
from tests.memory_loop import ENGINE, MemoryConnection, MemoryLoop
from tests.raw_server import raw_server, read_request
from tests.upstream_calls import WAYS, answer_to, ask

_FIRST_BYTE_S, _IDLE_S = 10, 5
_MOST_PACKETS = 200


def fuzz(examples: int) -> settings:
    return settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@dataclass(frozen=True)
class Answer:
    """A well-formed response, and what a client is to make of it."""

    interim: bytes
    status: bytes
    headers: tuple[Header, ...]
    framing: str
    body: bytes
    """Follows the request's own, which is sent back first."""
    sizes: tuple[int, ...]
    """Of the chunks, where it is chunked."""
    extension: bytes
    trailers: bytes

    @property
    def bare(self) -> bool:
        return self.status in (b"204", b"304")

    @property
    def ends_connection(self) -> bool:
        """Whether the engine closes after it."""
        return self.framing == "endless" and not self.bare

    @property
    def keeps(self) -> bool:
        """Whether the connection may carry another request."""
        close = any(value.lower() == b"close" for _, value in self.headers)
        return not close and not self.ends_connection

    def body_for(self, request: bytes) -> bytes:
        return b"" if self.bare else request + self.body

    def wire(self, request: bytes) -> bytes:
        body = self.body_for(request)
        lines = [b"HTTP/1.1 " + self.status + b" Some Reason"]
        lines += [name + b": " + value for name, value in self.headers]
        if self.framing == "sized" and not self.bare:
            lines.append(b"Content-LENGTH: %d" % len(body))
        if self.framing == "chunked" and not self.bare:
            lines.append(b"tRANSFER-encoding: chunked")
            body = self._chunked(body)
        return self.interim + b"\r\n".join([*lines, b"", body])

    def _chunked(self, body: bytes) -> bytes:
        wire = b""
        for size in (*self.sizes, len(body)):
            piece, body = body[:size], body[size:]
            if piece:
                wire += b"%x%b\r\n%b\r\n" % (len(piece), self.extension, piece)
        return wire + b"0" + self.extension + b"\r\n" + self.trailers + b"\r\n"


names = st.sampled_from([b"Content-Type", b"DATE", b"server", b"X-Request-Id", b"x-eMpTy", b"ETag"])
values = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"))
headers = st.one_of(
    st.tuples(names, values.map(lambda text: text.encode("latin-1"))),
    st.sampled_from([(b"Connection", b"close"), (b"CONNECTION", b"keep-alive")]),
)
hints = [b"100 Continue\r\n", b"102 Wait\r\nx: y\r\n", b"103 Early Hints\r\nLink: </a>; rel=x\r\n"]
interims = st.lists(st.sampled_from([b"HTTP/1.1 " + hint + b"\r\n" for hint in hints]), max_size=3)
bodies = st.one_of(
    st.binary(max_size=40),
    st.builds(bytes.__mul__, st.binary(min_size=1, max_size=9), st.integers(1, 40_000)),
)
answers = st.builds(
    Answer,
    interim=interims.map(b"".join),
    status=st.sampled_from([b"200", b"200", b"200", b"404", b"500", b"204", b"304"]),
    headers=st.lists(headers, max_size=4).map(tuple),
    framing=st.sampled_from(["sized", "chunked", "endless"]),
    body=bodies,
    sizes=st.lists(st.integers(1, 300), max_size=8).map(tuple),
    extension=st.sampled_from([b"", b"", b";x", b';a=b;c="d; e"']),
    trailers=st.sampled_from([b"", b"", b"X-Late: yes\r\n", b"a:\r\nb: c\r\n"]),
)


@dataclass(frozen=True)
class Delivery:
    """How an answer's bytes arrive."""

    cuts: tuple[int, ...]
    """Sizes of the packets, used in turn; none: all at once."""
    turns: tuple[int, ...]
    """How many turns of the loop pass after each packet, used in turn."""

    def packets(self, wire: bytes) -> list[bytes]:
        packets: list[bytes] = []
        while wire:
            size = self.cuts[len(packets) % len(self.cuts)] if self.cuts else len(wire)
            if len(packets) == _MOST_PACKETS:
                size = len(wire)
            packets.append(wire[:size])
            wire = wire[size:]
        return packets

    async def make(self, wire: bytes, say: Callable[[bytes], None]) -> None:
        for number, packet in enumerate(self.packets(wire)):
            say(packet)
            for _ in range(self.turns[number % len(self.turns)] if self.turns else 0):
                await asyncio.sleep(0)


deliveries = st.builds(
    Delivery,
    cuts=st.one_of(
        st.just(()),
        st.just((1,)),
        st.lists(st.integers(1, 60), min_size=1, max_size=6).map(tuple),
        st.lists(st.integers(1, 40_000), min_size=1, max_size=4).map(tuple),
    ),
    turns=st.lists(st.sampled_from([0, 0, 1, 3]), max_size=4).map(tuple),
)


@dataclass(frozen=True)
class Reader:
    """How the client takes a body."""

    way: str
    wait_turns: int
    """Turns of the loop between the headers and the reading."""
    pause_every: int
    """A pipe pauses after so many calls, and resumes a turn later; 0: never."""

    async def take(self, response: Response) -> bytes:
        for _ in range(self.wait_turns):
            await asyncio.sleep(0)
        if self.way == "read":
            return await response.read(_IDLE_S, 2**20)
        parts: list[bytes] = []

        def sink(part: bytes) -> None:
            assert part, "a call of the sink for nothing"
            parts.append(part)
            if self.pause_every and len(parts) % self.pause_every == 0:
                response.pause()
                asyncio.get_running_loop().call_soon(response.resume)

        await response.pipe(sink, _IDLE_S)
        return b"".join(parts)


readers = st.builds(
    Reader,
    way=st.sampled_from(WAYS),
    wait_turns=st.integers(0, 4),
    pause_every=st.sampled_from([0, 0, 1, 3]),
)


@dataclass(frozen=True)
class Exchange:
    """One call, from both sides."""

    answer: Answer
    delivery: Delivery
    reader: Reader


exchanges = st.builds(Exchange, answers, deliveries, readers)


class Engine:
    """Says what it is told to each request; `done` when all of it is said."""

    def __init__(self, loop: MemoryLoop) -> None:
        self._loop = loop
        self._wire: Callable[[bytes], bytes] = lambda body: b""
        self._delivery = Delivery((), ())
        self._end = ""
        self._saying: asyncio.Task[None] | None = None
        loop.engine = self._asked

    def prepare(self, wire: Callable[[bytes], bytes], delivery: Delivery, end: str) -> None:
        """wire: the answer to a request's body. end: `close`, `reset` or nothing."""
        self._wire, self._delivery, self._end = wire, delivery, end

    async def done(self) -> None:
        if self._saying is not None:
            await self._saying

    def _asked(self, connection: MemoryConnection, request: bytes) -> None:
        self._saying = self._loop.create_task(self._say(connection, request))

    async def _say(self, connection: MemoryConnection, request: bytes) -> None:
        wire = self._wire(request.partition(b"\r\n\r\n")[2])
        await self._delivery.make(wire, connection.say)
        if self._end == "close":
            connection.hang_up()
        elif self._end == "reset":
            connection.reset()


def run_in_memory(scenario: Callable[[MemoryLoop], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MemoryLoop)
        # What goes wrong in a callback would only be logged.
        loop.set_exception_handler(lambda _, context: problems.append(context))
        await scenario(loop)
        assert not problems

    problems: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        runner.run(run())


@fuzz(300)
@given(st.lists(exchanges, min_size=1, max_size=4))
def test_an_answer_comes_through_however_it_is_cut(calls: list[Exchange]) -> None:
    async def scenario(loop: MemoryLoop) -> None:
        engine, upstream = Engine(loop), Upstream(ENGINE, connect_s=5)
        connections = 1
        for number, call in enumerate(calls):
            end = "close" if call.answer.ends_connection else ""
            engine.prepare(call.answer.wire, call.delivery, end)
            body = b"request %d;" % number
            with await ask(upstream, body) as response:
                check_head(response, call.answer)
                assert await call.reader.take(response) == call.answer.body_for(body)
            await engine.done()
            paused_last = not loop.connections[-1].reading
            assert len(loop.connections) == connections
            if not call.answer.keeps or paused_last:
                assert loop.connections[-1].closed
                connections += 1
            else:
                assert not loop.connections[-1].closed
        await upstream.close()
        assert upstream.open_connections == 0

    run_in_memory(scenario)


def check_head(response: Response, answer: Answer) -> None:
    assert response.status == int(answer.status)
    sent = [(name.lower(), value) for name, value in answer.headers]
    framing = (b"content-length", b"transfer-encoding")
    assert [header for header in response.headers if header[0] not in framing] == sent


# broken


Change = Callable[[bytes], bytes]


Place = float | int
"""A share of the whole, or an offset."""


def _at(wire: bytes, place: Place) -> int:
    return int(place * len(wire)) if isinstance(place, float) else min(place, len(wire))


def _flip(place: Place, value: int) -> Change:
    def change(wire: bytes) -> bytes:
        at = _at(wire, place)
        return wire[:at] + bytes([value]) + wire[at + 1 :]

    return change


def _drop(place: Place, size: int) -> Change:
    return lambda wire: wire[: _at(wire, place)] + wire[_at(wire, place) + size :]


def _repeat(place: Place, size: int) -> Change:
    return lambda wire: wire[: _at(wire, place) + size] + wire[_at(wire, place) :]


def _insert(place: Place, what: bytes) -> Change:
    return lambda wire: wire[: _at(wire, place)] + what + wire[_at(wire, place) :]


def _truncate(place: Place) -> Change:
    return lambda wire: wire[: _at(wire, place)]


def _glue(what: bytes) -> Change:
    return lambda wire: wire + what


_EVIL = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
_FRAGMENTS = [
    b"\r\n",
    b"\n",
    b"\0",
    b" ",
    b":",
    b"0\r\n\r\n",
    b"content-length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding: gzip\r\n",
    b"connection: close\r\n",
    b"ffffffffffffffff",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 199 Odd\r\ncontent-length: 2\r\n\r\nxx",
    b"y" * 70_000,
    _EVIL,
]
places = st.one_of(
    st.sampled_from([n / 500 for n in range(500)]),  # anywhere, or where the headers are
    st.sampled_from(range(250)),
)
changes = st.one_of(
    st.builds(_flip, places, st.integers(0, 255)),
    st.builds(_drop, places, st.integers(1, 40)),
    st.builds(_repeat, places, st.integers(1, 40)),
    st.builds(_insert, places, st.one_of(st.sampled_from(_FRAGMENTS), st.binary(max_size=5))),
    st.builds(_truncate, places),
    st.builds(_glue, st.sampled_from([_EVIL, _EVIL * 2, b"\r\n" + _EVIL, b"H", b"\r\n", b"x"])),
)


@dataclass(frozen=True)
class BrokenExchange:
    """One call whose answer is changed on the way."""

    exchange: Exchange
    changes: tuple[Change, ...]
    end: str

    def wire(self, request: bytes) -> bytes:
        wire = self.exchange.answer.wire(request)
        for change in self.changes:
            wire = change(wire)
        return wire


broken = st.builds(
    BrokenExchange,
    exchanges,
    st.lists(changes, min_size=1, max_size=3).map(tuple),
    st.sampled_from(["", "", "close", "reset"]),
)
GOOD = Answer(b"", b"200", (), "sized", b" and more", (), b"", b"")


@fuzz(600)
@given(st.lists(broken, min_size=1, max_size=3), deliveries)
def test_a_broken_answer_is_an_error_and_never_another_calls(
    calls: Sequence[BrokenExchange], delivery: Delivery
) -> None:
    async def scenario(loop: MemoryLoop) -> None:
        engine, upstream = Engine(loop), Upstream(ENGINE, connect_s=5)
        for number, call in enumerate(calls):
            engine.prepare(call.wire, call.exchange.delivery, call.end)
            began_at = loop.time()
            with contextlib.suppress(UpstreamError):
                await have(upstream, call, _FIRST_BYTE_S)
            assert loop.time() - began_at <= _FIRST_BYTE_S + _IDLE_S
            await engine.done()
            await check_that_nothing_leaked(loop, upstream)
            engine.prepare(GOOD.wire, delivery, "")
            body = b"request %d" % number
            assert await answer_to(upstream, "read", body) == GOOD.body_for(body)
            await engine.done()
        await upstream.close()

    run_in_memory(scenario)


async def have(upstream: Upstream, call: BrokenExchange, first_byte_s: float) -> None:
    with await ask(upstream, b"broken", first_byte_s) as response:
        await call.exchange.reader.take(response)


async def check_that_nothing_leaked(loop: MemoryLoop, upstream: Upstream) -> None:
    """Only a connection that is kept is open, and it is one."""
    await asyncio.sleep(0)  # Those that were closed report it.
    alive = [connection for connection in loop.connections if not connection.closed]
    assert upstream.open_connections == len(alive) <= 1


# over real sockets


def said_by(writer: asyncio.StreamWriter) -> Callable[[bytes], None]:
    def say(packet: bytes) -> None:
        if writer.is_closing():
            raise ConnectionResetError
        writer.write(packet)

    return say


async def serve_and_call(calls: Sequence[BrokenExchange]) -> None:
    """Each broken call is followed by a good one."""
    turn = iter(calls)
    broken_call: BrokenExchange | None = None

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            body = (await read_request(reader)).partition(b"\r\n\r\n")[2]
            call = broken_call
            if call is None:
                writer.write(GOOD.wire(body))
                continue
            await call.exchange.delivery.make(call.wire(body), said_by(writer))
            if call.end == "reset":
                writer.transport.abort()
            return

    async with raw_server(handler) as server:
        upstream = Upstream(server.url, connect_s=5)
        for number, broken_call in enumerate(turn):
            with contextlib.suppress(UpstreamError):
                await have(upstream, broken_call, 60)
            # What an engine says after the next request nobody can tell from the answer to it.
            await until_closed(upstream)
            broken_call = None
            body = b"request %d" % number
            assert await answer_to(upstream, "pipe", body) == GOOD.body_for(body)
            assert upstream.open_connections == 1
        await upstream.close()


async def until_closed(upstream: Upstream) -> None:
    while upstream.open_connections:  # noqa: ASYNC110 - the client has no event for it
        await asyncio.sleep(0)


@fuzz(40)
@given(st.lists(broken, min_size=1, max_size=3))
def test_a_broken_answer_over_sockets(calls: list[BrokenExchange]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_and_call([replace(call, end=call.end or "close") for call in calls]))


@fuzz(40)
@given(st.lists(exchanges, min_size=1, max_size=4))
def test_an_answer_comes_through_sockets(calls: list[Exchange]) -> None:
    async def run() -> None:
        turn = iter(calls)

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                body = (await read_request(reader)).partition(b"\r\n\r\n")[2]
                call = next(turn)
                await call.delivery.make(call.answer.wire(body), said_by(writer))
                if not call.answer.keeps:
                    return

        async with raw_server(handler) as server:
            upstream = Upstream(server.url, connect_s=5)
            for number, call in enumerate(calls):
                body = b"request %d" % number
                with await ask(upstream, body) as response:
                    check_head(response, call.answer)
                    assert await call.reader.take(response) == call.answer.body_for(body)
            await upstream.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
