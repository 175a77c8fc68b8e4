"""The fake engine's fast mode: the same bytes as the ordinary one, in steps, and counted."""

import asyncio
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from loadtest.fake.answers import Answer
from loadtest.fake.book import Book
from loadtest.fake.completions import Chat
from loadtest.fake.fast import Fast, FastConnection
from loadtest.fake.hot_request import may_become_hot, read_hot
from loadtest.fake.http import Exchange
from loadtest.fake.requests import make_answer
from loadtest.fake.state import Batch, Behaviour, Engine, Totals
from tests.fake_engine import FakeEngine

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
USER = [{"role": "user", "content": "Say hello, 100 % of it"}]
ADAPTER = "acme/support@1:0123456789ab"
STREAM = {"stream": True}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
STATS = {
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}
CALLS = [
    (CHAT, {"messages": USER}),
    (CHAT, {"messages": USER, "max_tokens": 3, "model": ADAPTER}),
    (CHAT, {"messages": USER, "n": 2, "logprobs": True, "top_logprobs": 1}),
    (CHAT, {"messages": USER} | STREAM),
    (CHAT, {"messages": USER, "max_tokens": 1} | USAGE),
    (CHAT, {"messages": USER, "n": 2, "model": ADAPTER} | USAGE),
    (CHAT, {"messages": USER, "logprobs": True, "top_logprobs": 1} | STATS),
    (TEXT, {"prompt": "The"}),
    (TEXT, {"prompt": ["The", "A"], "max_tokens": 3}),
    (TEXT, {"prompt": "The", "logprobs": 0, "model": ADAPTER} | STREAM),
    (TEXT, {"prompt": [1, 2, 3]} | STATS),
    (CHAT, {"messages": USER, "model": "no/such@1:0"}),
    (CHAT, {"messages": USER, "max_tokens": 0}),
    (CHAT, {}),
    ("/v1/responses", {"input": "hi"}),
    ("/v1/messages", {"messages": USER, "max_tokens": 3}),
]


def load(engine: FakeEngine, folder: Path, name: str = ADAPTER) -> None:
    (folder / "adapter_config.json").write_text("{}")
    body = {"lora_name": name, "lora_path": str(folder)}
    post(engine, "/v1/load_lora_adapter", body).raise_for_status()


def post(engine: FakeEngine, route: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(engine.url + route, json=body, headers=headers, timeout=30, trust_env=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeEngine, FakeEngine]]:
    """A fast fake and an ordinary one that hold the same."""
    folder = tmp_path_factory.mktemp("adapter")
    engines = FakeEngine.start("--fast"), FakeEngine.start()
    for engine in engines:
        load(engine, folder)
    yield engines
    for engine in engines:
        engine.stop()


@pytest.fixture
def fast() -> Iterator[FakeEngine]:
    """A fast fake of its own."""
    engine = FakeEngine.start("--fast")
    yield engine
    engine.stop()


def same(answer: httpx.Response) -> tuple[int, dict[str, str], str]:
    """An answer without what differs from one call to the next."""
    text = re.sub(r'"created":\d{10},', '"created":0,', answer.text)
    text = re.sub(r'"created_at":\d{10},', '"created_at":0,', text)
    text = re.sub(r'"(resp|msg)_[0-9a-f]{16}"', '"id"', text)
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    assert int(answer.headers.get("content-length", len(answer.content))) == len(answer.content)
    return answer.status_code, headers, text


@pytest.mark.parametrize("request_id", ["r1", "00f1a2b3c4d5e6f7", "x" * 60])
@pytest.mark.parametrize(("route", "body"), CALLS)
def test_a_fast_answer_is_the_ordinary_one(
    pair: tuple[FakeEngine, FakeEngine], route: str, body: dict[str, Any], request_id: str
) -> None:
    asked = {"model": "base"} | body
    headers = {"X-Request-Id": request_id}
    first, again = (post(pair[0], route, asked, **headers) for _ in range(2))
    ordinary = post(pair[1], route, asked, **headers)
    assert same(first) == same(again) == same(ordinary)


def test_each_call_has_its_own_id_and_the_time(fast: FakeEngine) -> None:
    def ask(request_id: str) -> Any:
        body = {"model": "base", "messages": USER, "request_id": request_id}
        return post(fast, CHAT, body, **{"x-request-id": request_id}).json()

    one, other = ask("one"), ask("two")
    assert (one["id"], other["id"]) == ("chatcmpl-one", "chatcmpl-two")
    assert abs(one["created"] - other["created"]) <= 60
    unnamed = [post(fast, CHAT, {"messages": USER}).json()["id"] for _ in range(2)]
    assert unnamed == ["chatcmpl-0000000000000000", "chatcmpl-0000000000000001"]


def test_calls_are_counted_and_leave_no_record(fast: FakeEngine) -> None:
    post(fast, CHAT, {"messages": USER, "max_tokens": 3, "n": 2})
    post(fast, CHAT, {"messages": USER, "max_tokens": 5, "stream": True})
    state = fast.state()
    assert [call["route"] for call in state["calls"]] == []
    assert state["totals"] == {
        "calls": 2,
        "open": 0,
        "answered": 2,
        "client_closed": 0,
        "reset": 0,
        "tokens_sent": 6 + 5,
        "writes": 1 + 5,
    }


def test_an_unloaded_adapter_is_unknown_again(fast: FakeEngine, tmp_path: Path) -> None:
    load(fast, tmp_path)
    body = {"model": ADAPTER, "messages": USER}
    assert post(fast, CHAT, body).status_code == 200
    post(fast, "/v1/unload_lora_adapter", {"lora_name": ADAPTER}).raise_for_status()
    assert post(fast, CHAT, body).status_code == 404
    load(fast, tmp_path)
    assert post(fast, CHAT, body).status_code == 200


def test_a_change_of_behaviour_reaches_known_requests(fast: FakeEngine) -> None:
    body = {"messages": USER}
    assert post(fast, CHAT, body).json()["usage"]["completion_tokens"] == 9
    fast.control(tokens=3)
    assert post(fast, CHAT, body).json()["usage"]["completion_tokens"] == 4
    fast.control(status=503)
    assert post(fast, CHAT, body).status_code == 503
    fast.control(status=None)
    assert post(fast, CHAT, body).status_code == 200
    assert fast.state()["totals"]["calls"] == 3


def test_ordinary_and_fast_requests_share_a_connection(fast: FakeEngine) -> None:
    with httpx.Client(base_url=fast.url, trust_env=False) as client:
        for _ in range(2):
            assert client.get("/health").status_code == 200
            assert client.post(CHAT, json={"messages": USER}).status_code == 200
            assert client.post(CHAT, json={"model": "none", "messages": USER}).status_code == 404
            with client.stream("POST", CHAT, json={"messages": USER, "stream": True}) as stream:
                assert stream.read().endswith(b"data: [DONE]\n\n")


def request_bytes(**fields: Any) -> bytes:
    """A plain request of the chat route."""
    body = json.dumps({"model": "base", "messages": USER} | fields).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}X-Request-Id: Ab\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_request_is_read_only_when_whole() -> None:
    whole = request_bytes()
    found = read_hot(whole + b"POST")
    assert found is not None
    assert (found.route, found.request_id, found.end) == (CHAT, b"Ab", len(whole))
    assert json.loads(found.body)["model"] == "base"
    for end in range(len(whole)):
        assert read_hot(whole[:end]) is None
        assert may_become_hot(whole[:end])


@pytest.mark.parametrize(
    "data",
    [
        b"GET /health HTTP/1.1\r\n\r\n",
        request_bytes().replace(b"completions", b"completion_"),
        request_bytes().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request_bytes().replace(b"Content-Length: ", b"Content-Length: x"),
        request_bytes().replace(b"Content-Length", b"Transfer-Encoding"),
        request_bytes().replace(b"application/json", b"text/plain"),
        b"POST /v1/chat" + b"x" * 70_000,
    ],
)
def test_what_is_unusual_is_left_to_the_parser(data: bytes) -> None:
    assert read_hot(data) is None
    assert not may_become_hot(data)


def test_split_and_pipelined_requests_are_answered_in_turn(fast: FakeEngine) -> None:
    host, _, port = fast.url.removeprefix("http://").partition(":")
    two = request_bytes(stream=True) + request_bytes()
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(two), 50):
            client.sendall(two[start : start + 50])
        answers = b""
        while b'"usage":' not in answers or not answers.endswith(b"}"):
            answers += client.recv(65_536)
    streamed, _, plain = answers.partition(b"0\r\n\r\n")
    assert streamed.endswith(b"data: [DONE]\n\n\r\n")
    assert plain.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_client_that_leaves_is_counted(fast: FakeEngine) -> None:
    fast.control(token_time_s=30.0)
    body = {"messages": USER, "stream": True}
    with httpx.stream("POST", fast.url + CHAT, json=body, trust_env=False) as stream:
        chunks = stream.iter_bytes()
        next(chunks)
        assert fast.state()["totals"]["open"] == 1
    totals = fast.wait_for(lambda state: state["totals"]["open"] == 0)["totals"]
    assert (totals["client_closed"], totals["answered"]) == (1, 0)


def outcomes(engine: FakeEngine, count: int) -> list[str]:
    """How calls on connections of their own end."""
    ends = []
    for index in range(count):
        try:
            post(engine, CHAT, {"messages": USER, "stream": index % 2 == 0})
            ends.append("whole")
        except httpx.ReadError:
            ends.append("reset")
    return ends


def test_resets_come_by_their_share_and_the_seed() -> None:
    seen = []
    for _ in range(2):
        engine = FakeEngine.start("--fast", "--reset-share", "0.5", "--seed", "7")
        try:
            seen.append(outcomes(engine, 24))
            totals = engine.state()["totals"]
        finally:
            engine.stop()
        assert totals["reset"] == seen[-1].count("reset") > 0
        assert totals["answered"] == seen[-1].count("whole") > 0
        assert 0 < totals["writes"] < 24 * 9
    assert seen[0] == seen[1]


async def test_a_broken_answer_begins_and_never_ends() -> None:
    ends = set()
    for streamed in (True, False):
        fast = make_fast(reset_share=1.0)
        for _ in range(20):
            connection, wire = connect(fast)
            connection.data_received(request_bytes(stream=streamed))
            for _ in range(5):
                fast.stepper.step()
            await asyncio.sleep(0)
            assert wire.lingers == struct.pack("ii", 1, 0)
            sent = b"".join(wire.written)
            ends.add((streamed, bool(sent)))
            assert not sent.endswith((b"0\r\n\r\n", b"}"))
        assert fast.stepper.running == 0
    assert ends == {(True, True), (True, False), (False, True), (False, False)}


def test_a_reset_share_is_for_the_fast_mode_alone(fake_engine: FakeEngine) -> None:
    url = f"{fake_engine.url}/_fake/control"
    answer = httpx.post(url, json={"reset_share": 0.1}, trust_env=False)
    assert answer.status_code == 400
    assert "--fast" in answer.json()["error"]


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self._socket: socket.socket | None = None
        self.written: list[bytes] = []
        self.lingers = b""
        """SO_LINGER when it was aborted."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name != "socket":
            return default
        self._socket = self._socket or socket.socket()
        return self._socket

    def abort(self) -> None:
        assert self._socket is not None
        self.lingers = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        self._socket.close()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return False


def make_fast(**behaviour: Any) -> Fast:
    """The parts of the fast mode without a server."""
    engine = Engine("base", 4096, Batch(1, 1), Behaviour(tokens=4, **behaviour))
    engine.totals = Totals()

    def read(exchange: Exchange) -> Answer:
        body = json.loads(exchange.body)
        return make_answer(exchange, body, "base", engine.behaviour, base="base")

    return Fast(engine, engine.totals, Book(engine, {CHAT: Chat}, read), seed=0)


def connect(fast: Fast) -> tuple[FastConnection, Wire]:
    """A client's connection."""

    async def refuse(exchange: Exchange) -> None:
        raise AssertionError(f"not for the ordinary handler: {exchange.body!r}")

    wire = Wire()
    connection = cast(FastConnection, fast.connect(refuse, set()))
    connection.connection_made(wire)
    return connection, wire


async def test_all_streams_are_stepped_together_one_write_each() -> None:
    fast = make_fast()
    clients = [connect(fast) for _ in range(3)]
    for connection, _ in clients:
        connection.data_received(request_bytes(stream=True))
    for step in range(1, 6):
        fast.stepper.step()
        assert [len(wire.written) for _, wire in clients] == [step] * 3
    assert fast.stepper.running == 0
    assert fast.totals.answered == 3
    assert all(wire.written[-1].endswith(b"0\r\n\r\n") for _, wire in clients)


async def test_several_tokens_events_can_leave_in_one_write() -> None:
    one, several = make_fast(), make_fast()
    several.engine.control({"tokens_at_once": 2})
    written = []
    for fast, steps in (one, 5), (several, 3):
        connection, wire = connect(fast)
        connection.data_received(request_bytes(stream=True))
        for _ in range(steps):
            fast.stepper.step()
        assert len(wire.written) == fast.totals.writes == steps
        assert (fast.stepper.running, fast.totals.answered, fast.totals.tokens_sent) == (0, 1, 5)
        written.append(b"".join(wire.written).partition(b"\r\n\r\n")[2])
    assert len(written[0]) == len(written[1])


async def test_a_client_that_reads_too_slowly_is_waited_for() -> None:
    fast = make_fast()
    (slow, slow_wire), (quick, quick_wire) = connect(fast), connect(fast)
    for connection in slow, quick:
        connection.data_received(request_bytes(stream=True))
    fast.stepper.step()
    slow.pause_writing()
    for _ in range(4):
        fast.stepper.step()
    assert (len(slow_wire.written), len(quick_wire.written)) == (1, 5)
    slow.resume_writing()
    for _ in range(4):
        fast.stepper.step()
    body = [b"".join(wire.written).partition(b"\r\n\r\n")[2] for wire in (slow_wire, quick_wire)]
    assert body[0] == body[1]


async def test_a_call_that_waits_for_its_first_token_ends_with_its_client() -> None:
    fast = make_fast(first_token_time_s=600.0)
    connection, wire = connect(fast)
    connection.data_received(request_bytes())
    assert (fast.totals.open, fast.stepper.running) == (1, 0)
    connection.connection_lost(None)
    assert (fast.totals.open, fast.totals.client_closed) == (0, 1)
    assert wire.written == []


async def test_nothing_is_stepped_while_the_engine_loads() -> None:
    fast = make_fast()
    connection, wire = connect(fast)
    fast.engine.loading = True
    connection.data_received(request_bytes())
    stepping = asyncio.create_task(fast.stepper.run())
    for _ in range(10):
        await asyncio.sleep(0)
    assert wire.written == []
    fast.engine.loading = False
    fast.engine.announce()
    for _ in range(100):
        await asyncio.sleep(0)
    stepping.cancel()
    assert fast.totals.answered == 1
    assert wire.written[0].startswith(b"HTTP/1.1 200 OK\r\n")
