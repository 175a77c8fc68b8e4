"""Header limits on real connections to a real uvicorn."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.http_guard import guarded_protocol
from tests.http_server import connected, read_answer, seconds_until_closed, serving

HEADERS_S = 0.3
HEADER_BYTES = 4096
REQUEST = b"GET /plain HTTP/1.1\r\nhost: x\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """/plain answers at once, /refuse without reading the body, /slow only after a while."""
    if scope["path"] != "/refuse":
        while (await receive()).get("more_body"):
            pass
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * HEADERS_S)
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(params=["uvloop", "asyncio"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A server with the guard, on both event loops."""
    guard = guarded_protocol(HEADERS_S, HEADER_BYTES)
    with serving(app, http=guard, loop=request.param, timeout_keep_alive=60) as found:
        yield found


def test_requests_on_a_kept_connection_are_served(port: int) -> None:
    with connected(port) as client:
        for _ in range(3):
            client.sendall(REQUEST)
            assert read_answer(client).endswith(b"\r\n\r\nok")


def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    with connected(port) as client:
        assert HEADERS_S / 2 < seconds_until_closed(client) < 10 * HEADERS_S


def test_trickled_headers_are_cut_off_at_the_limit(port: int) -> None:
    with connected(port) as client:
        began_s = time.monotonic()
        client.sendall(b"GET /plain HTTP/1.1\r\nhost: x\r\n")
        client.settimeout(HEADERS_S / 10)
        assert _trickle(client, b"a: b\r\n", until_s=began_s + 20 * HEADERS_S)
        assert time.monotonic() - began_s < 10 * HEADERS_S


def test_trickled_headers_are_cut_off_on_a_kept_connection_too(port: int) -> None:
    with connected(port) as client:
        client.sendall(REQUEST)
        read_answer(client)
        client.sendall(b"GET")
        assert seconds_until_closed(client) < 10 * HEADERS_S


def test_stray_line_ends_do_not_hold_a_kept_connection(port: int) -> None:
    with connected(port) as client:
        client.sendall(REQUEST)
        read_answer(client)
        began_s = time.monotonic()
        client.settimeout(HEADERS_S / 10)
        assert _trickle(client, b"\r\n", until_s=began_s + 20 * HEADERS_S)


def test_an_idle_kept_connection_outlives_the_header_limit(port: int) -> None:
    with connected(port) as client:
        client.sendall(REQUEST)
        read_answer(client)
        time.sleep(2 * HEADERS_S)
        client.sendall(REQUEST)
        assert read_answer(client).endswith(b"ok")


def test_neither_a_slow_answer_nor_a_slow_body_is_cut_off(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n")
        time.sleep(2 * HEADERS_S)
        client.sendall(b"{}")
        assert read_answer(client).endswith(b"ok")


def test_others_are_served_while_one_trickles(port: int) -> None:
    with connected(port) as slow, connected(port) as other:
        slow.sendall(b"GET /plain")
        other.sendall(REQUEST)
        assert read_answer(other).endswith(b"ok")


@pytest.mark.parametrize(
    "too_large",
    [
        b"GET /plain HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * HEADER_BYTES + b"\r\n\r\n",
        b"GET /plain HTTP/1.1\r\n" + b"x-many: a\r\n" * HEADER_BYTES + b"\r\n",
        b"GET /" + b"a" * HEADER_BYTES + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /plain HTTP/1.1\r\nhost: x\r\nx-never-ends: " + b"a" * HEADER_BYTES,
    ],
    ids=["one long header", "many headers", "long URL", "a header without end"],
)
def test_a_header_block_over_the_limit_is_refused(port: int, too_large: bytes) -> None:
    with connected(port) as client:
        if too_large.endswith(b"a"):
            # The second chunk lies wholly within the block.
            client.sendall(too_large)
            time.sleep(HEADERS_S / 8)
        _send_all_that_is_taken(client, too_large)
        answer = read_answer(client)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "headers_too_large"


def test_large_headers_below_the_limit_pass(port: int) -> None:
    with connected(port) as client:
        for piece in (b"GET /plain HTTP/1.1\r\nhost: x\r\nx-long: ", b"a" * 3900, b"\r\n\r\n"):
            client.sendall(piece)
        assert read_answer(client).endswith(b"ok")


def test_a_body_does_not_count_as_headers(port: int) -> None:
    body = b"a" * (4 * HEADER_BYTES)
    head = b"POST /plain HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with connected(port) as client:
        client.sendall(head + body + head + body)
        assert read_answer(client).endswith(b"ok")


def test_garbage_is_answered_in_the_one_error_shape(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = read_answer(client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"


def test_garbage_behind_a_request_does_not_break_into_its_answer(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n" + b"\x16\x03\x01\r\n\r\n")
        received = b""
        while piece := client.recv(65536):
            received += piece
    assert received.count(b"content-length") == 1
    assert received.endswith(b"\r\n\r\nok")


def test_a_broken_body_is_refused_once(port: int) -> None:
    with connected(port) as client:
        client.sendall(
            b"POST /slow HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
        )
        received = b""
        while piece := client.recv(65536):
            received += piece
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"content-length") == 1


def test_a_refused_body_is_dropped_for_a_while_and_then_the_connection_goes(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\nabc")
        assert read_answer(client).endswith(b"ok")
        began_s = time.monotonic()
        client.settimeout(HEADERS_S / 10)
        assert _trickle(client, b"more", until_s=began_s + 20 * HEADERS_S)


def test_a_refused_body_that_comes_in_time_keeps_the_connection(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
        assert read_answer(client).endswith(b"ok")
        client.sendall(b"cd")
        time.sleep(2 * HEADERS_S)
        client.sendall(REQUEST)
        assert read_answer(client).endswith(b"ok")


def _trickle(client: socket.socket, piece: bytes, *, until_s: float) -> bool:
    """Sends `piece` again and again; whether the server closed the connection before `until_s`."""
    while time.monotonic() < until_s:
        try:
            client.sendall(piece)
            if not client.recv(1):
                return True
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            return True
    return False


def _send_all_that_is_taken(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(data)
