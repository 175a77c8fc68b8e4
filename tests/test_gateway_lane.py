"""Relayed requests on raw connections to the real gateway process, before a fake engine."""

import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fake_engine import FakeEngine
from tests.http_server import connected, read_answer
from tests.running_gateway import BASE, RunningGateway, TinyModel, running_gateway

CHAT, TEXT, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"
REQUEST_BYTES = 4 * 2**20


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel
) -> Iterator[RunningGateway]:
    fake = FakeEngine.start("--served-model-name", BASE)
    folder = tmp_path_factory.mktemp("gateway")
    timeouts = {"body_s": 0.5}
    try:
        with running_gateway(fake, folder, tiny_model, timeouts=timeouts) as found:
            found.push(folder / "acme")
            yield found
    finally:
        fake.stop()


@pytest.fixture(autouse=True)
def _every_request_is_counted_and_logged_once(gateway: RunningGateway) -> Iterator[None]:
    gateway.fake.control(tokens=4, text=None, hold_after_tokens=None, forget_calls=True)
    yield
    gateway.wait_for(lambda: _in_flight(gateway) == 0)
    gateway.wait_for(lambda: _counted(gateway) == len(gateway.requests_logged()))
    ids = [line["request_id"] for line in gateway.requests_logged()]
    assert len(ids) == len(set(ids))


def _in_flight(gateway: RunningGateway) -> float:
    return gateway.sample("loraplex_requests_in_flight")


def _counted(gateway: RunningGateway, **labels: str) -> int:
    return int(gateway.sample("loraplex_requests_total", **labels))


def _line(gateway: RunningGateway, request_id: str) -> dict[str, Any]:
    """A request's line in the log; empty as long as there is none."""
    lines = gateway.requests_logged()
    return next((line for line in lines if line["request_id"] == request_id), {})


def asking(
    gateway: RunningGateway,
    target: str = TEXT,
    *headers: str,
    method: str = "POST",
    key: str | None = None,
    body: bytes | None = None,
    **fields: Any,
) -> bytes:
    """A whole request."""
    if body is None:
        prompt = {"messages": [{"role": "user", "content": "x"}]} if "chat" in target else {}
        asked = {"model": "support", "prompt": "x", **prompt, **fields}
        body = json.dumps(asked).encode() if method == "POST" else b""
    lines = [
        f"{method} {target} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {gateway.keys['acme'] if key is None else key}",
        *headers,
    ]
    if not any(line.startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_stream(client: socket.socket) -> bytes:
    """A whole streamed answer, as it came over the wire."""
    received = bytearray()
    while not received.endswith(b"\r\n0\r\n\r\n"):
        piece = client.recv(2**20)
        assert piece, "the stream has no end"
        received += piece
    return bytes(received)


def status_of(answer: bytes) -> int:
    return int(answer.split(maxsplit=2)[1])


def body_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def exchanged(gateway: RunningGateway, request: bytes) -> bytes:
    """The answer to a request on a connection of its own."""
    with connected(gateway.port) as client:
        client.sendall(request)
        return read_answer(client)


def reset(client: socket.socket) -> None:
    """Breaks the connection off."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# what a request may look like


@pytest.mark.parametrize(
    "target",
    [
        f"{CHAT}?api-version=1",
        "/v1/chat%2fcompletions",
        "/v1/ch%61t/completions?x=%00",
        f"http://elsewhere{CHAT}",
        f"{CHAT}#part",
    ],
)
def test_every_form_of_the_path_is_relayed(gateway: RunningGateway, target: str) -> None:
    answer = exchanged(
        gateway, asking(gateway, target, messages=[{"role": "user", "content": "x"}])
    )
    assert status_of(answer) == 200
    request_id = re.search(rb"x-request-id: (\w+)", answer)
    assert request_id
    gateway.wait_for(lambda: bool(_line(gateway, request_id[1].decode())))
    assert _line(gateway, request_id[1].decode())["path"] == CHAT


@pytest.mark.parametrize("target", [f"/{CHAT}", f"{CHAT}/", CHAT.upper(), f"{CHAT}%20"])
def test_other_paths_are_not_there(gateway: RunningGateway, target: str) -> None:
    answer = exchanged(gateway, asking(gateway, target))
    assert (status_of(answer), body_of(answer)["error"]["code"]) == (404, "unknown_route")


@pytest.mark.parametrize("path", [CHAT, TEXT, "/v1/messages"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_refused_by_the_application(
    gateway: RunningGateway, path: str, method: str
) -> None:
    answer = exchanged(gateway, asking(gateway, path, method=method))
    assert status_of(answer) == 405
    assert b"\r\nallow: POST\r\n" in answer
    assert "use POST" in body_of(answer)["error"]["message"]


@pytest.mark.parametrize(
    "model", ["a\r\nset-cookie: b=c", "\r\n\r\n<script>", "sup\x00port", 'a"b', "é", "𝄞" * 300, "/"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_no_models_name_gets_into_a_header(
    gateway: RunningGateway, model: str, stream: bool
) -> None:
    answer = exchanged(gateway, asking(gateway, model=model, stream=stream))
    assert status_of(answer) == 404
    head = answer.partition(b"\r\n\r\n")[0]
    assert {line.partition(b":")[0] for line in head.split(b"\r\n")[1:]} == {
        b"date",
        b"content-type",
        b"content-length",
        b"x-request-id",
    }


# bodies


def test_a_body_that_never_ends_is_a_408(gateway: RunningGateway) -> None:
    answer = exchanged(gateway, asking(gateway, body=b"{")[:-1].replace(b": 1\r", b": 2\r"))
    assert (status_of(answer), body_of(answer)["error"]["code"]) == (408, "request_timeout")


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [("lpx_wrong", 401, "invalid_api_key"), (None, 413, "payload_too_large")],
)
@pytest.mark.parametrize("coding", ["content-length: 33554432", "transfer-encoding: chunked"])
def test_a_refusal_in_mid_upload_is_readable(
    gateway: RunningGateway, key: str | None, status: int, code: str, coding: str
) -> None:
    upload = b"x" * 2 ** (15 + 10)
    if coding.startswith("transfer"):
        upload = (b"%x\r\n%b\r\n" % (2**18, upload[: 2**18])) * 128 + b"0\r\n\r\n"
    with connected(gateway.port) as client:
        client.sendall(asking(gateway, TEXT, coding, key=key, body=b""))
        sender = threading.Thread(target=client.sendall, args=[upload])
        sender.start()
        answer = read_answer(client)
        sender.join()
        assert (status_of(answer), body_of(answer)["error"]["code"]) == (status, code)
        client.sendall(asking(gateway))
        assert status_of(read_answer(client)) == 200


def test_a_body_that_breaks_off_is_refused_and_counted_as_given_up(gateway: RunningGateway) -> None:
    before = _counted(gateway, status="499")
    for packets in (1, 2):
        with connected(gateway.port) as client:
            head = asking(gateway, TEXT, "transfer-encoding: chunked", body=b"")
            for piece in (head + b"zz\r\n",) if packets == 1 else (head, b"zz\r\n"):
                client.sendall(piece)
            assert status_of(read_answer(client)) == 400
            assert client.recv(1) == b""
    gateway.wait_for(lambda: _counted(gateway, status="499") == before + 2)


# one connection


def test_all_kinds_take_turns_on_one_connection(gateway: RunningGateway) -> None:
    kinds = [
        (asking(gateway), 200),
        (asking(gateway, MODELS, method="GET"), 200),
        (asking(gateway, CHAT), 200),
        (asking(gateway, key="lpx_wrong"), 401),
        (asking(gateway, "/v1/embeddings"), 400),
        (asking(gateway, CHAT, model="nope"), 404),
        (asking(gateway, TEXT, body=b"{"), 400),
        (asking(gateway, "/nowhere"), 404),
        (asking(gateway, "/v1/messages/count_tokens", messages=[]), 400),
    ]
    streamed = asking(gateway, CHAT, stream=True)
    with connected(gateway.port) as client:
        for turn in range(10):
            for request, status in kinds:
                client.sendall(request)
                assert status_of(read_answer(client)) == status
                client.sendall(streamed)
                answer = read_stream(client)
                assert b"data: [DONE]" in answer
                assert answer.count(b"HTTP/1.1 200 ") == 1
            del turn


def test_a_second_request_behind_a_stream_ends_the_connection_after_it(
    gateway: RunningGateway,
) -> None:
    gateway.fake.control(hold_after_tokens=2)
    with connected(gateway.port) as client:
        client.sendall(asking(gateway, stream=True))
        gateway.fake.wait_for(lambda state: state["open"] == 1)
        client.sendall(asking(gateway, MODELS, method="GET"))
        gateway.fake.control(hold_after_tokens=None)
        assert b"data: [DONE]" in read_stream(client)
        assert client.recv(1) == b""


# the client goes away


def test_who_goes_away_behind_a_second_request_closes_the_engines_call(
    gateway: RunningGateway,
) -> None:
    gateway.fake.control(hold_after_tokens=2)
    with connected(gateway.port) as client:
        client.sendall(asking(gateway, stream=True))
        gateway.fake.wait_for(lambda state: state["open"] == 1)
        client.sendall(asking(gateway, body=b"x" * 100_000))
        reset(client)
        gateway.fake.wait_for(lambda state: state["open"] == 0)


@pytest.mark.parametrize("size", [100, 100_000, REQUEST_BYTES - 1000])
@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_away_closes_the_engines_call_whatever_it_sent(
    gateway: RunningGateway, size: int, stream: bool
) -> None:
    gateway.fake.control(hold_after_tokens=0)
    fields = {"model": "support", "prompt": "x", "stream": stream}
    request = asking(gateway, body=json.dumps(fields).encode() + b" " * size)
    before = len(gateway.requests_logged())
    with connected(gateway.port) as client:
        client.sendall(request)
        gateway.fake.wait_for(lambda state: state["open"] == 1)
        reset(client)
        gateway.fake.wait_for(lambda state: state["open"] == 0)
    gateway.wait_for(lambda: len(gateway.requests_logged()) == before + 1)
    assert gateway.requests_logged()[-1]["outcome"] == "cancelled"


def test_who_goes_away_in_the_queue_of_a_load_is_counted(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    before = _counted(gateway, status="499")
    version = gateway.push(tmp_path / "slow", adapter="slow")
    gateway.fake.control(hold_loads=True, forget_adapters=True)
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        try:
            for stream in (True, False) * 5:
                client = stack.enter_context(connected(gateway.port))
                client.sendall(asking(gateway, model=f"slow@{version}", stream=stream))
                stack.callback(reset, client)
            gateway.wait_for(lambda: _in_flight(gateway) == 10)
            patient = pool.submit(exchanged, gateway, asking(gateway, model=f"slow@{version}"))
            gateway.wait_for(lambda: _in_flight(gateway) == 11)
            stack.close()
            gateway.wait_for(lambda: _counted(gateway, status="499") == before + 10)
            assert _in_flight(gateway) == 1
        finally:
            gateway.fake.control(hold_loads=False)
        assert status_of(patient.result()) == 200


@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_away_as_the_engine_ends_is_counted_once(
    gateway: RunningGateway, stream: bool
) -> None:
    before, calls = _counted(gateway), 40
    for _ in range(calls):
        gateway.fake.control(hold_after_tokens=2)
        with connected(gateway.port) as client:
            client.sendall(asking(gateway, stream=stream))
            gateway.fake.wait_for(lambda state: state["open"] == 1)
            going = threading.Thread(target=reset, args=[client])
            going.start()
            gateway.fake.control(hold_after_tokens=None)
            going.join()
        gateway.fake.wait_for(lambda state: state["open"] == 0)
    gateway.wait_for(lambda: _counted(gateway) == before + calls)
    gateway.wait_for(lambda: len(gateway.requests_logged()) == before + calls)
    assert {line["outcome"] for line in gateway.requests_logged()[-calls:]} <= {
        "cancelled",
        "served",
    }


def test_nothing_is_left_of_those_who_went_away(gateway: RunningGateway) -> None:
    def descriptors() -> int:
        return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))

    def come_and_go(count: int) -> None:
        for number in range(count):
            with connected(gateway.port) as client:
                client.sendall(asking(gateway, stream=number % 2 == 0)[: -(number % 3) or None])
                reset(client)

    come_and_go(3)
    gateway.wait_for(lambda: gateway.fake.state()["open"] == 0)
    exchanged(gateway, asking(gateway))
    before = descriptors()
    come_and_go(200)
    gateway.wait_for(lambda: descriptors() <= before)


# back-pressure


def test_a_client_that_stops_reading_stops_the_engine(gateway: RunningGateway) -> None:
    word, words = "x" * 50_000, 1000  # 50 MB, several times what the kernel's buffers take
    gateway.fake.control(text=" ".join([word] * words))

    def sent() -> int:
        return int(gateway.fake.calls(TEXT)[-1]["tokens_sent"])

    with connected(gateway.port) as client:
        client.settimeout(30)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.sendall(asking(gateway, stream=True))
        gateway.fake.wait_for(lambda state: state["open"] == 1)
        gateway.fake.control(text=None)  # for those who come later
        last, turns = -1, 0
        while turns < 10:
            gateway.call("GET", "/livez", key="any")  # Another turn of its loop.
            last, turns = (last, turns + 1) if last == sent() else (sent(), 0)
        assert last < words // 2
        answer = read_stream(client)
    events = re.findall(rb"data: (\{.*?\})\n\n", answer_body(answer))
    text = "".join(json.loads(event)["choices"][0]["text"] for event in events)
    assert text == " ".join([word] * words)
    assert answer_body(answer).endswith(b"data: [DONE]\n\n")


def answer_body(answer: bytes) -> bytes:
    """Out of HTTP's chunks."""
    rest, at = answer.partition(b"\r\n\r\n")[2], 0
    pieces: list[bytes] = []
    while True:
        end = rest.index(b"\r\n", at)
        size = int(rest[at:end], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(rest[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


# what the registry says


def test_what_changes_in_the_registry_holds_for_open_connections_too(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    gateway.add_tenant("changing")
    for number in (1, 2):
        gateway.push(tmp_path / str(number), "changing")
    key, kept = gateway.keys["changing"], gateway.keys["acme"]
    (found,) = gateway.admin("GET", "/tenants/changing/keys").json()["data"]
    with connected(gateway.port) as client:

        def answer(model: str) -> bytes:
            client.sendall(asking(gateway, key=key, model=model))
            return read_answer(client)

        def version() -> str:
            head = answer("support").partition(b"\r\n\r\n")[0].decode()
            return head.partition("x-loraplex-version: ")[2].partition("\r")[0]

        assert version() == "changing/support@2"
        promote = {"version": 1, "force": True}
        gateway.admin("POST", "/tenants/changing/adapters/support/promote", json=promote)
        gateway.wait_for(lambda: version() == "changing/support@1")
        assert status_of(answer(BASE)) == 200
        gateway.admin("PATCH", "/tenants/changing", json={"policy": {"allow_base": False}})
        gateway.wait_for(lambda: status_of(answer(BASE)) == 403)
        gateway.admin("DELETE", f"/tenants/changing/keys/{found['id']}")
        gateway.wait_for(lambda: status_of(answer("support")) == 401)
        client.sendall(asking(gateway, key=kept))
        assert status_of(read_answer(client)) == 200


# the end


def test_what_outlasts_the_drain_is_told_counted_and_logged_once(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    fake = FakeEngine.start("--served-model-name", BASE)
    try:
        with running_gateway(fake, tmp_path, tiny_model, timeouts={"drain_s": 1.0}) as gateway:
            gateway.push(tmp_path / "acme")
            status_of(exchanged(gateway, asking(gateway)))
            fake.control(hold_after_tokens=2)
            with (
                connected(gateway.port) as idle,
                connected(gateway.port) as plain,
                connected(gateway.port) as stream,
                connected(gateway.port) as sending,
            ):
                idle.sendall(asking(gateway, MODELS, method="GET"))
                read_answer(idle)
                plain.sendall(asking(gateway))
                stream.sendall(asking(gateway, CHAT, stream=True))
                sending.sendall(asking(gateway)[:-1])
                fake.wait_for(lambda state: state["open"] == 2)
                gateway.wait_for(lambda: b"data: {" in stream.recv(2**16, socket.MSG_PEEK))
                gateway.process.terminate()
                assert idle.recv(1) == b""
                told = read_stream(stream)
                assert stream.recv(1) == b""
                for waiting in (plain, sending):
                    answer = read_answer(waiting)
                    assert status_of(answer) == 503
                    assert body_of(answer)["error"]["code"] == "shutting_down"
                    assert b"connection: close" in answer
                    assert waiting.recv(1) == b""
            assert told.count(b'"code": "shutting_down"') == 1
            assert b"[DONE]" not in told
            assert gateway.stop() == 0
            ends = [
                (line["route"], line["status"], line["outcome"], line["error_code"])
                for line in gateway.requests_logged()[1:]
            ]
            assert sorted(ends) == [
                ("chat_completions", 200, "broken", "shutting_down"),
                ("completions", 503, "failed", "shutting_down"),
                ("completions", 503, "failed", "shutting_down"),
            ]
    finally:
        fake.stop()
