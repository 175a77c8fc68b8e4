"""The load tester's client: what it says became of a request, over real connections."""

import asyncio
import contextlib
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from loadtest.client.client import Call, Client
from loadtest.client.clock import MonotonicClock
from loadtest.client.exchange import Exchange
from loadtest.client.reply import Reply, Timeouts
from loadtest.client.said import token_counts
from loadtest.client.target import Target, TargetError
from tests.fake_engine import FakeEngine
from tests.load_clock import FakeClock
from tests.raw_server import Handler, raw_server, read_request

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
KEY = "sk-very-secret"
OK_BODY = b'{"choices":[{"index":0,"message":{"content":"hi"}}]}'
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def call(route: str = CHAT, *, stream: bool = True, **more: Any) -> Call:
    ask: dict[str, Any] = {"model": "base", "max_tokens": 5, "ignore_eos": True, "stream": stream}
    ask |= {"messages": [{"role": "user", "content": "hi"}]} if route == CHAT else {"prompt": "hi"}
    if stream:
        ask["stream_options"] = {"include_usage": True}
    return Call(route, "acme", json.dumps(ask | more).encode(), stream, words=True)


def plain(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, more, len(body), body)


def chunked(*parts: bytes) -> bytes:
    head = STREAM_HEAD + b"transfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def saying(*parts: bytes, close: bool = False) -> Handler:
    """Answers each request with these bytes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
            if close:
                return

    return handler


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@contextlib.asynccontextmanager
async def asking(url: str, **options: Any) -> AsyncIterator[Client]:
    clock = options.pop("clock", None) or MonotonicClock()
    timeouts = options.pop("timeouts", None)
    target = Target(url, key=SecretStr(KEY), **options.pop("target", {}))
    async with Client(target, clock, timeouts, **options) as client:
        yield client
    assert client.open_connections == 0


async def reply_to(handler: Handler, asked: Call | None = None, **options: Any) -> Reply:
    async with raw_server(handler) as server, asking(server.url, **options) as client:
        return await client.ask(asked or call())


@pytest.mark.parametrize("route", [CHAT, TEXT])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer(fake_engine: FakeEngine, route: str, stream: bool) -> None:
    async with asking(fake_engine.url) as client:
        reply = await client.ask(call(route, stream=stream))
    assert (reply.outcome, reply.status, reply.error) == ("ok", 200, None)
    assert reply.output_tokens == 5
    assert reply.prompt_tokens is not None
    assert reply.said is not None
    assert reply.said.text.startswith("«base»")
    assert len(reply.times) == (5 if stream else 0)
    assert reply.sent_s is not None
    assert reply.ended_s is not None
    moments = [reply.sent_s, *reply.times, reply.ended_s]
    assert moments == sorted(moments)
    sent = fake_engine.calls(route)[-1]
    assert sent["headers"]["authorization"] == f"Bearer {KEY}"


async def test_a_tenants_own_key_comes_before_the_one_for_all(fake_engine: FakeEngine) -> None:
    own = {"keys": {"acme": SecretStr("sk-acme")}, "headers": {"x-own": "1"}}
    async with asking(fake_engine.url + "/v1/", target=own) as client:
        assert (await client.ask(call())).outcome == "ok"
    (sent,) = fake_engine.calls(CHAT)
    assert sent["headers"]["authorization"] == "Bearer sk-acme"
    assert sent["headers"]["x-own"] == "1"


async def test_a_connection_is_kept_for_so_many_requests() -> None:
    async with raw_server(saying(plain(OK_BODY))) as server:
        async with asking(server.url, requests_per_connection=3) as client:
            for _ in range(7):
                assert (await client.ask(call(stream=False))).outcome == "ok"
        assert server.connections == 3


async def test_calls_above_the_limit_wait_and_are_counted() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            asked.set()
            await answer.wait()
            writer.write(plain(OK_BODY))

    async with raw_server(handler) as server, asking(server.url, max_connections=1) as client:
        calls = [asyncio.create_task(client.ask(call(stream=False))) for _ in range(3)]
        await asked.wait()
        assert client.in_flight == 1
        answer.set()
        replies = await asyncio.gather(*calls)
        assert [reply.outcome for reply in replies] == ["ok"] * 3
        assert client.waits == 2
        assert client.in_flight == 0
        assert server.connections == 1


async def test_a_connection_closed_while_it_was_kept_is_made_again() -> None:
    """The server's end and the next request may cross."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(plain(OK_BODY))
        await read_request(reader)

    async with raw_server(handler) as server, asking(server.url) as client:
        for _ in range(3):
            assert (await client.ask(call(stream=False))).outcome == "ok"
        assert server.connections == 3


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (b"404 Not Found", b'{"error":{"message":"x","type":"NotFoundError","code":404}}',
         "NotFoundError"),
        (b"404 Not Found", b'{"detail":"Not Found"}', "HTTP 404"),
        (b"500 Oops", b"<html>", "HTTP 500"),
        (b"429 Slow", b'{"error":{"message":"x","type":"t","code":"rate_limit"}}', "rate_limit"),
        (b"401 No", b'{"error":{"message":"x","type":"%b"}}' % KEY.encode(), "http_error"),
        (b"400 No", b'{"error":{"type":"the whole prompt"}}', "HTTP 400"),
        (b"301 Moved", b"", "HTTP 301"),
    ],
)  # fmt: skip
async def test_an_error_is_told_by_its_code_alone(status: bytes, body: bytes, error: str) -> None:
    reply = await reply_to(saying(plain(body, status)))
    assert (reply.outcome, reply.error) == ("http_error", error)
    assert reply.status == int(status[:3])


@pytest.mark.parametrize(
    ("parts", "outcome", "error"),
    [
        ([chunked(EVENT, DONE), b"0\r\n\r\n"], "ok", None),
        ([chunked(EVENT, DONE)], "ok", None),
        ([STREAM_HEAD + b"\r\n" + EVENT, EVENT + DONE], "ok", None),
        ([chunked(EVENT), b"0\r\n\r\n"], "bad_answer", "no [DONE]"),
        ([chunked(EVENT)], "connection", "closed early"),
        ([chunked(EVENT, b"data: {{\n\n", DONE), b"0\r\n\r\n"], "bad_answer", "event is not JSON"),
        ([plain(b"<html>")], "bad_answer", "not JSON"),
        ([plain(b"{}")], "bad_answer", "not JSON"),
        ([plain(b'{"a":1}')], "bad_answer", "no completion"),
        ([b"\x16\x03\x01 this is not HTTP\r\n\r\n"], "bad_answer", "not HTTP"),
        ([plain(OK_BODY) + b"HTTP/1.1 200 OK\r\n\r\n"], "ok", None),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", plain(OK_BODY)], "ok", None),
        ([b""], "connection", "closed early"),
    ],
)
async def test_what_counts_as_an_answer(
    parts: list[bytes], outcome: str, error: str | None
) -> None:
    reply = await reply_to(saying(*parts, close=True))
    assert (reply.outcome, reply.error) == (outcome, error)


@pytest.mark.parametrize(
    ("fault", "outcome", "error", "tokens"),
    [
        ({"error_after_tokens": 3}, "bad_answer", "InternalServerError", 3),
        ({"die_after_tokens": 3}, "connection", "closed early", 3),
        ({"status": 503}, "http_error", "InternalServerError", 0),
        ({"garbage": "body"}, "bad_answer", "not JSON", 0),
        ({"garbage": "http"}, "bad_answer", "not HTTP", 0),
    ],
)
async def test_faults_of_an_engine(
    fake_engine: FakeEngine, fault: dict[str, Any], outcome: str, error: str, tokens: int
) -> None:
    fake_engine.control(**fault)
    async with asking(fake_engine.url) as client:
        reply = await client.ask(call())
    assert (reply.outcome, reply.error, len(reply.times)) == (outcome, error, tokens)


async def test_a_stream_nobody_asked_for() -> None:
    reply = await reply_to(saying(chunked(EVENT, DONE), b"0\r\n\r\n"), call(stream=False))
    assert (reply.outcome, reply.error) == ("bad_answer", "stream not asked for")


@pytest.mark.parametrize(
    ("header", "queue_s"),
    [
        (b"server-timing: cache;desc=x, queue;dur=12.5\r\n", 0.0125),
        (b"x-queue-time: 40\r\n", 0.04),
        (b"server-timing: myqueue;dur=1\r\n", None),
        (b"x-queue-time: soon\r\n", None),
        (b"x-queue-time: -3\r\n", None),
        (b"x-queue-time: nan\r\n", None),
        (b"x-queue-time: 1e400\r\n", None),
    ],
)
async def test_what_the_server_says_of_its_queue(header: bytes, queue_s: float | None) -> None:
    assert (await reply_to(saying(plain(OK_BODY, more=header)))).queue_s == queue_s


@pytest.mark.parametrize(("value", "cold"), [(b"true", True), (b"false", False)])
async def test_a_cold_start_that_the_server_tells_of(value: bytes, cold: bool) -> None:
    header = b"X-Loraplex-Cold-Start: " + value + b"\r\n"
    assert (await reply_to(saying(plain(OK_BODY, more=header)))).cold_start is cold


async def test_bytes_that_nobody_asked_for_close_the_connection() -> None:
    closed = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(plain(OK_BODY))
        await writer.drain()
        writer.write(plain(OK_BODY))
        await reader.read()
        closed.set()

    async with raw_server(handler) as server, asking(server.url) as client:
        assert (await client.ask(call(stream=False))).outcome == "ok"
        await closed.wait()


async def test_nobody_listens() -> None:
    async with raw_server(silent) as server:
        url = server.url
    async with asking(url) as client:
        reply = await client.ask(call())
    assert (reply.outcome, reply.error) == ("connection", "connection refused")


async def test_no_such_host() -> None:
    async with asking("http://no-such-host.invalid") as client:
        reply = await client.ask(call())
    assert (reply.outcome, reply.error) == ("connection", "no such host")


LIMITS = Timeouts(connect_s=5, first_byte_s=10, idle_s=3, total_s=20)


@pytest.mark.parametrize(
    ("events", "waits_s", "error"),
    [(0, [9.9], "first byte"), (1, [2.9], "idle"), (8, [2.5] * 7 + [2.4], "total")],
)
async def test_timeouts(events: int, waits_s: list[float], error: str) -> None:
    """The clock stands while bytes are on their way."""
    clock, turn, asked = FakeClock(jumps=False), asyncio.Semaphore(0), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.set()
        for number in range(events):
            frame = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
            writer.write(frame if number else chunked(EVENT))
            await turn.acquire()
        await reader.read()

    async with (
        raw_server(handler) as server,
        asking(server.url, clock=clock, timeouts=LIMITS) as client,
    ):
        task = asyncio.create_task(client.ask(call()))
        await asked.wait()
        for number, wait_s in enumerate(waits_s, 1):
            await until(partial(_has_heard, client, number if events else 0))
            clock.advance(wait_s)
            assert not task.done()
            assert _exchange(client).reply is None
            if number < len(waits_s):
                turn.release()
        clock.advance(0.2)
        reply = await task
    assert (reply.outcome, reply.error) == ("timeout", error)


async def until(holds: Callable[[], bool]) -> None:
    """Lets the event loop turn until then."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0)


def _exchange(client: Client) -> Exchange:
    """The one request under way."""
    (exchange,) = client._exchanges
    return exchange


def _has_heard(client: Client, tokens: int) -> bool:
    """Whether a request is under way, and so many tokens of its answer have come."""
    if not client._exchanges:
        return False
    events = _exchange(client)._events
    return tokens == 0 or (events is not None and len(events.times) >= tokens)


async def test_a_connection_that_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, dialing = FakeClock(jumps=False), asyncio.Event()

    async def hang(client: Client) -> None:
        dialing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Client, "_dial", hang)
    async with asking("http://127.0.0.1:1", clock=clock, timeouts=LIMITS) as client:
        task = asyncio.create_task(client.ask(call()))
        await dialing.wait()
        clock.advance(5.1)
        reply = await task
    assert (reply.outcome, reply.error) == ("timeout", "connect")


@pytest.mark.parametrize("stage", ["sent", "streaming"])
async def test_cancelled_calls_tell_what_had_come(fake_engine: FakeEngine, stage: str) -> None:
    fake_engine.control(hold_after_tokens=2 if stage == "streaming" else 0)
    async with asking(fake_engine.url, max_connections=1) as client:
        tasks = [asyncio.create_task(client.ask(call())) for _ in range(2)]
        await until(partial(_has_heard, client, 2 if stage == "streaming" else 0))
        client.cancel()
        replies = await asyncio.gather(*tasks)
        later = await client.ask(call())
    assert {reply.outcome for reply in [*replies, later]} == {"cancelled"}
    assert len(replies[0].times) == (2 if stage == "streaming" else 0)
    assert replies[1].sent_s is None
    assert client.in_flight == 0


def test_a_target_is_checked_and_shows_no_key() -> None:
    target = Target("https://host/path/v1", key=SecretStr(KEY), headers={"x-api-key": KEY})
    assert KEY not in repr(target)
    assert (target.host, target.port, target.prefix) == ("host", 443, "/path")


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://x", "http://", "http://a:b@c", "http://h?x=1", "http://h:99999"],
)
def test_a_wrong_url_names_the_option(url: str) -> None:
    with pytest.raises(TargetError, match="--url"):
        Target(url)


def test_a_header_cannot_bring_a_second_one() -> None:
    with pytest.raises(TargetError, match="--header"):
        Target("http://h", headers={"x": "1\r\ny: 2"})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1, and its key, in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes")
    forms = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    curves = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    key = curves.generate_private_key(curves.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "engine")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now.replace(year=2100))
    made = made.add_extension(address, critical=False).sign(key, hashes.SHA256())
    path = tmp_path_factory.mktemp("tls") / "engine.pem"
    pem = forms.Encoding.PEM
    path.write_bytes(
        made.public_bytes(pem)
        + key.private_bytes(pem, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    )
    return path


def trusting(path: Path) -> dict[str, Any]:
    return {"ca_file": path}


@pytest.mark.parametrize(
    ("options", "outcome", "error"),
    [
        (trusting, "ok", None),
        (lambda path: {}, "connection", "certificate: self-signed certificate"),
        (lambda path: {"check_certificate": False}, "ok", None),
    ],
)
async def test_certificates_are_checked(
    certificate: Path, options: Callable[[Path], dict[str, Any]], outcome: str, error: str | None
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with (
        raw_server(saying(chunked(EVENT, DONE), b"0\r\n\r\n"), context) as server,
        asking(server.url, target=options(certificate)) as client,
    ):
        for _ in range(2):
            reply = await client.ask(call())
            assert (reply.outcome, reply.error) == (outcome, error)


def test_a_file_without_certificates(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="--ca-file"):
        Target("https://h", ca_file=tmp_path / "none.pem").ssl_context()


@pytest.mark.parametrize("tokens", [-1, 2**31, True, 1.5, "7", None])
def test_a_count_of_tokens_that_cannot_be_is_none(tokens: object) -> None:
    assert token_counts({"prompt_tokens": 3, "completion_tokens": tokens}) == (3, None)
