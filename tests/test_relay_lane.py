"""Relayed requests on real connections to a real uvicorn, beside those of the application."""

import gc
import http.client
import json
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.http_server import connected, read_answer, seconds_until_closed
from tests.lane_server import BLOCK, BODY_BYTES, LaneServer, lane_server

HEADERS_S = 0.3
GET = b"GET /plain HTTP/1.1\r\nhost: x\r\n\r\n"
UPGRADE = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAE")
BROKEN = b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def running(request: pytest.FixtureRequest) -> Iterator[LaneServer]:
    """A server with a lane, on both event loops."""
    with lane_server(request.param) as found:
        with connected(found.port) as client:
            asked(client, GET)
        yield found


@pytest.fixture
def server(running: LaneServer) -> Iterator[LaneServer]:
    """The server, on which nothing is left in the end."""
    running.forget()
    before = running.tasks()
    yield running
    running.open_gate()
    running.wait_for(running.idle)
    assert running.tasks() == before


def post(path: bytes, body: bytes = b"{}", *headers: bytes, version: bytes = b"1.1") -> bytes:
    """A whole request."""
    lines = [b"host: x", b"content-length: %d" % len(body), *headers]
    return b"POST %b HTTP/%b\r\n%b\r\n\r\n%b" % (path, version, b"\r\n".join(lines), body)


def chunked(path: bytes, *pieces: bytes) -> bytes:
    """A whole request in HTTP's chunks."""
    coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n%b" % (path, coded)


def said(answer: bytes) -> tuple[int, bytes]:
    """Status and body of one answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def asked(client: socket.socket, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to one request."""
    client.sendall(request)
    return said(read_answer(client))


def all_of(client: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    while piece := client.recv(2**20):
        received += piece
    return received


def reset(client: socket.socket) -> None:
    """Breaks the connection off."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# bodies


def test_a_body_comes_through_however_it_is_sent(server: LaneServer) -> None:
    body = bytes(range(256)) * 300
    with connected(server.port) as client:
        for request in (
            post(b"/echo", body),
            post(b"/echo", b""),
            chunked(b"/echo", *(body[at : at + 7] for at in range(0, len(body), 7))),
            chunked(b"/echo"),
        ):
            sent = b"" if request.endswith((b"length: 0\r\n\r\n", b"\r\n\r\n0\r\n\r\n")) else body
            assert asked(client, request) == (200, sent)


def test_a_trickled_body_comes_through(server: LaneServer) -> None:
    with connected(server.port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in (post(b"/echo", b"abcdef"), chunked(b"/echo", b"abc", b"def")):
            for byte in request:
                client.sendall(bytes([byte]))
            assert said(read_answer(client)) == (200, b"abcdef")


def test_who_waits_for_leave_to_send_gets_it(server: LaneServer) -> None:
    head = post(b"/echo", b"", b"Expect: 100-Continue").replace(b"length: 0", b"length: 3")
    with connected(server.port) as client:
        client.sendall(head)
        assert read_answer(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert asked(client, b"abc") == (200, b"abc")


def test_who_is_refused_gets_no_leave_to_send(server: LaneServer) -> None:
    head = post(b"/refuse", b"", b"expect: 100-continue").replace(b"length: 0", b"length: 3")
    with connected(server.port) as client:
        assert asked(client, head) == (401, b"no")


def test_http_1_0_knows_no_leave_to_send(server: LaneServer) -> None:
    head = post(b"/echo", b"", b"expect: 100-continue", version=b"1.0")
    with connected(server.port) as client:
        client.sendall(head.replace(b"length: 0", b"length: 3"))
        server.wait_for(lambda: len(server.clients) == 1)
        assert asked(client, b"abc") == (200, b"abc")


def test_a_body_that_never_ends_is_refused_in_time(server: LaneServer) -> None:
    with connected(server.port) as client:
        status, body = asked(client, post(b"/impatient", b"{}").replace(b": 2", b": 3"))
        assert (status, body) == (408, b"request_timeout")


@pytest.mark.parametrize("size", [BODY_BYTES, 70_000, 65_536])
def test_a_large_body_waits_outside_until_it_is_asked_for(server: LaneServer, size: int) -> None:
    body = bytes(range(256)) * (size // 256)
    with connected(server.port) as client:
        sender = threading.Thread(target=client.sendall, args=[post(b"/late", body)])
        sender.start()
        server.wait_for(lambda: len(server.clients) == 1)
        server.open_gate()
        assert said(read_answer(client)) == (200, body)
        sender.join()


def test_little_of_a_body_is_taken_before_anyone_asks(server: LaneServer) -> None:
    """What the gateway holds for a caller whose key it has not looked at."""
    with connected(server.port) as client:
        client.sendall(post(b"/late", b"").replace(b": 0", b": 67108864"))
        server.wait_for(lambda: len(server.clients) == 1)
        sender = threading.Thread(target=client.sendall, args=[b"x" * 67_108_864])
        sender.start()
        server.wait_for(server.read_paused)
        assert server.in_loop(lambda: server.clients[0]._size) < 2**20
        server.open_gate()
        assert said(read_answer(client)) == (413, b"payload_too_large")
        sender.join()


def test_a_body_over_the_limit_is_refused_readably_and_the_connection_kept(
    server: LaneServer,
) -> None:
    too_large = b"x" * (8 * BODY_BYTES)
    for request in (post(b"/echo", too_large), chunked(b"/echo", *[too_large[:50_000]] * 160)):
        with connected(server.port) as client:
            assert asked(client, request) == (413, b"payload_too_large")
            assert asked(client, post(b"/echo", b"next")) == (200, b"next")


def test_nothing_of_a_refused_body_is_kept(server: LaneServer) -> None:
    with connected(server.port) as client:
        assert asked(client, post(b"/echo", b"x" * (2 * BODY_BYTES)))[0] == 413
        assert asked(client, post(b"/refuse", b"x" * 50_000))[0] == 401
        assert server.in_loop(lambda: [len(client._body) for client in server.clients]) == [0, 0]


def test_a_refusal_in_mid_upload_is_readable_and_the_connection_kept(server: LaneServer) -> None:
    with connected(server.port) as client:
        client.sendall(post(b"/refuse", b"").replace(b": 0", b": 100000"))
        client.sendall(b"x" * 30_000)
        assert said(read_answer(client)) == (401, b"no")
        client.sendall(b"x" * 70_000 + b"")
        assert asked(client, post(b"/echo", b"next")) == (200, b"next")


def test_a_refused_body_that_does_not_come_ends_the_connection() -> None:
    with lane_server(headers_s=HEADERS_S) as server, connected(server.port) as client:
        assert asked(client, post(b"/refuse", b"").replace(b": 0", b": 9")) == (401, b"no")
        assert seconds_until_closed(client) >= HEADERS_S / 2


@pytest.mark.parametrize("path", [b"/echo", b"/hold"])
@pytest.mark.parametrize("packets", [1, 2])
def test_a_body_that_breaks_off_is_refused_once(
    server: LaneServer, path: bytes, packets: int
) -> None:
    with connected(server.port) as client:
        head = BROKEN % path
        if packets == 2:
            client.sendall(head)
            server.wait_for(lambda: len(server.clients) == 1)
            head = b""
        client.sendall(head + b"zz\r\n")
        received = all_of(client)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"\r\n\r\n") == 1
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
    server.wait_for(server.at_rest)
    assert server.ends in (["gone"], ["cancelled"])


def test_a_body_that_breaks_off_after_its_answer_gets_no_second_one(server: LaneServer) -> None:
    """The client would take it for the answer to its next request."""
    for path in (b"/refuse", b"/stream"):
        with connected(server.port) as client:
            client.sendall(BROKEN % path)
            received = b""
            while b"no" not in received and BLOCK not in received:
                received += client.recv(2**20)
            client.sendall(b"zz\r\n")
            received += all_of(client)
            assert received.count(b"HTTP/1.1") == 1
            assert not received.endswith(b"0\r\n\r\n")
    server.wait_for(server.idle)
    assert server.ends == ["401", "cancelled"]


# what a request may look like


@pytest.mark.parametrize(
    "target",
    [
        b"/echo?api-version=1",
        b"/%65cho",
        b"http://x/echo",
        b"http://x/echo?a=b#c",
        b"/echo#part",
        b"/echo?a#b",
        b"/echo#a?b",
    ],
)
def test_every_form_of_a_relayed_path_is_relayed(server: LaneServer, target: bytes) -> None:
    with connected(server.port) as client:
        assert asked(client, post(target)) == (200, b"{}")
    assert len(server.clients) == 1
    assert not server.asked


@pytest.mark.parametrize(
    ("request_line", "seen"),
    [
        (b"POST //echo", "POST //echo"),
        (b"POST /echo/", "POST /echo/"),
        (b"POST /ECHO", "POST /ECHO"),
        (b"POST /echo%20", "POST /echo "),
        (b"POST /echo%3fa", "POST /echo?a"),
        (b"POST /x/../echo", "POST /x/../echo"),
        (b"GET /echo", "GET /echo"),
        (b"OPTIONS /echo", "OPTIONS /echo"),
        (b"PUT /echo", "PUT /echo"),
        (b"OPTIONS *", "OPTIONS *"),
    ],
)
def test_all_else_is_the_applications(server: LaneServer, request_line: bytes, seen: str) -> None:
    with connected(server.port) as client:
        status, _ = asked(client, request_line + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert status == 200
    assert server.asked == [seen]
    assert not server.clients


@pytest.mark.parametrize(
    "request_line", [b"CONNECT x:443", b"CONNECT /echo", b"POST \xc3\xa9", b"POST http://"]
)
def test_what_has_no_path_is_refused(server: LaneServer, request_line: bytes) -> None:
    with connected(server.port) as client:
        client.sendall(request_line + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        assert all_of(client).startswith(b"HTTP/1.1 400 ")
    assert not server.clients
    assert not server.asked


@pytest.mark.parametrize(
    "request_",
    [
        post(b"/echo", b"{}", b"connection: close"),
        post(b"/echo", version=b"1.0"),
        post(b"/echo", b"{}", b"connection: keep-alive", version=b"1.0"),
    ],
)
def test_who_wants_it_closed_gets_the_answer_and_the_end(
    server: LaneServer, request_: bytes
) -> None:
    with connected(server.port) as client:
        client.sendall(request_)
        received = all_of(client)
    assert said(received) == (200, b"{}")
    assert b"\r\nconnection: close\r\n" in received


def test_a_stream_for_http_1_0_has_no_chunks(server: LaneServer) -> None:
    with connected(server.port) as client:
        client.sendall(post(b"/stream", version=b"1.0"))
        received = client.recv(2**20)
        server.open_gate()
        received += all_of(client)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == server.blocks * BLOCK


def test_a_wish_to_upgrade_is_passed_over(server: LaneServer) -> None:
    """Java's client asks for HTTP/2 in this way with each first request."""
    body = b"0123456789" * 1000
    with connected(server.port) as client:
        for path in (b"/echo", b"/plain", b"/echo"):
            assert asked(client, post(path, body, *UPGRADE)) == (200, body)
            head, _, rest = post(path, body, *UPGRADE).partition(b"012")
            client.sendall(head)
            assert asked(client, b"012" + rest) == (200, body)
        assert asked(client, GET) == (200, b"")
        smuggled = post(b"/echo", GET, *UPGRADE)
        assert asked(client, smuggled) == (200, GET)
        assert asked(client, post(b"/echo", b"next")) == (200, b"next")
    assert server.asked == ["POST /plain", "POST /plain", "GET /plain"]


def test_trailers_are_no_headers(server: LaneServer) -> None:
    with connected(server.port) as client:
        for path in (b"/echo", b"/plain"):
            trailing = chunked(path, b"{}")[:-2] + b"authorization: Bearer stolen\r\n\r\n"
            assert asked(client, trailing) == (200, b"{}")
    assert [name for name, _ in server.clients[0].headers] == [b"host", b"transfer-encoding"]


def test_every_answer_has_the_servers_headers(server: LaneServer) -> None:
    with connected(server.port) as client:
        for request in (post(b"/echo"), GET, post(b"/refuse")):
            client.sendall(request)
            assert read_answer(client).count(b"\r\ndate: ") == 1


# one after the other


def test_both_kinds_take_turns_on_one_connection(server: LaneServer) -> None:
    before = server.in_loop(lambda: server.state.total_requests)
    with connected(server.port) as client:
        for turn in range(60):
            path = b"/echo" if turn % 3 else b"/plain"
            body = b"%d" % turn
            client.sendall(post(path, body) if turn % 2 else chunked(path, body))
            answer = read_answer(client)
            assert said(answer) == (200, body)
            assert (b"x-kind: lane" if turn % 3 else b"x-kind: asgi") in answer
        assert len(server.state.connections) == 1
        assert server.in_loop(lambda: server.state.total_requests) == before + 60
        assert not server.in_loop(lambda: bool(server.state.tasks))


def test_a_connection_leaves_no_task_behind(server: LaneServer) -> None:
    before = server.tasks()
    for _ in range(20):
        with connected(server.port) as client:
            assert asked(client, post(b"/echo"))[0] == 200
            assert asked(client, GET)[0] == 200
            client.sendall(post(b"/hold"))
            reset(client)
        with connected(server.port) as client:
            client.sendall((BROKEN % b"/hold") + b"zz\r\n")
            all_of(client)
    server.wait_for(server.idle)
    assert server.tasks() == before
    assert len(server.ends) == 60
    assert server.ends.count("200") == 20


PIPELINED = {
    "lane, lane": (post(b"/hold", b"first"), post(b"/echo", b"second")),
    "lane, application": (post(b"/hold", b"first"), GET),
    "application, lane": (post(b"/slow", b"first"), post(b"/echo", b"second")),
    "application, application": (post(b"/slow", b"first"), GET),
    "lane, garbage": (post(b"/hold", b"first"), b"\x16\x03\x01 hello\r\n\r\n"),
    "application, garbage": (post(b"/slow", b"first"), b"\x16\x03\x01 hello\r\n\r\n"),
    "lane, half a request": (post(b"/hold", b"first"), b"POST /echo HT"),
    "lane, too many headers": (post(b"/hold", b"first"), GET[:-2] + b"x: y\r\n" * 20_000),
    "lane, a broken body": (post(b"/hold", b"first"), (BROKEN % b"/echo") + b"zz\r\n"),
    "lane, an upgrade": (post(b"/hold", b"first"), post(b"/echo", b"", *UPGRADE)),
}


@pytest.mark.parametrize("packets", [1, 2])
@pytest.mark.parametrize(("first", "behind"), PIPELINED.values(), ids=PIPELINED)
def test_what_comes_before_the_answer_ends_the_connection_after_it(
    server: LaneServer, first: bytes, behind: bytes, packets: int
) -> None:
    with connected(server.port) as client:
        if packets == 2:
            client.sendall(first)
            server.wait_for(lambda: bool(server.clients or server.asked))
            first = b""
        client.sendall(first + behind)
        # Until the second was read and passed over.
        server.wait_for(server.deaf)
        server.open_gate()
        received = all_of(client)
    assert said(received) == (200, b"first")
    assert b"connection: close" in received
    assert received.count(b"HTTP/1.1") == 1
    assert len(server.clients) + len(server.asked) == 1


@pytest.mark.parametrize(
    "wish", [[b"connection: close"], [b"connection: close, upgrade", b"upgrade: a"]]
)
@pytest.mark.parametrize("path", [b"/hold", b"/slow"])
def test_what_comes_behind_a_last_request_is_dropped(
    server: LaneServer, path: bytes, wish: list[bytes]
) -> None:
    with connected(server.port) as client:
        client.sendall(post(path, b"first", *wish) + post(b"/echo", b"second"))
        server.wait_for(lambda: bool(server.clients or server.asked))
        client.sendall(post(b"/echo", b"third"))
        server.open_gate()
        received = all_of(client)
    assert said(received) == (200, b"first")
    assert received.count(b"HTTP/1.1") == 1
    assert len(server.clients) + len(server.asked) == 1


@pytest.mark.parametrize("path", [b"/hold", b"/slow"])
def test_who_goes_away_after_a_second_request_is_noticed(server: LaneServer, path: bytes) -> None:
    with connected(server.port) as client:
        client.sendall(post(path))
        server.wait_for(lambda: bool(server.clients or server.asked))
        client.sendall(b"x" * 100_000)
        reset(client)
    server.wait_for(lambda: not server.in_loop(lambda: server.state.connections))
    if path == b"/hold":
        server.wait_for(server.idle)
        assert server.ends == ["cancelled"]


@pytest.mark.parametrize("first", [post(b"/large"), GET.replace(b"plain", b"large")])
def test_who_asks_again_before_it_read_is_let_go(server: LaneServer, first: bytes) -> None:
    """Else the second answer, a stream, would pile up behind the first without a limit."""
    with connected(server.port) as client:
        client.sendall(first)
        server.wait_for(server.write_paused)
        client.sendall(post(b"/stream"))
        received = all_of(client)
    assert said(received) == (200, 512 * BLOCK)
    assert server.blocks == 0


# the client goes away


@pytest.mark.parametrize("size", [2, 70_000, 200_000, BODY_BYTES])
def test_who_goes_away_is_noticed_whatever_the_bodys_size(server: LaneServer, size: int) -> None:
    with connected(server.port) as client:
        client.sendall(post(b"/hold", b"x" * size))
        server.wait_for(lambda: len(server.clients) == 1 and server.clients[0].cancels)
        reset(client)
        server.wait_for(server.idle)
    assert server.ends[0] in ("cancelled", "gone")


def test_who_goes_away_in_mid_body_is_noticed(server: LaneServer) -> None:
    for path in (b"/echo", b"/late"):
        with connected(server.port) as client:
            client.sendall(post(path, b"x").replace(b": 1", b": 2"))
            server.wait_for(lambda: len(server.clients) == len(server.ends) + 1)
            reset(client)
        server.wait_for(server.idle)
    assert server.ends == ["cancelled", "cancelled"]


def test_who_goes_away_in_mid_stream_is_noticed(server: LaneServer) -> None:
    with connected(server.port) as client:
        client.sendall(post(b"/stream"))
        server.wait_for(lambda: server.blocks > 0)
        reset(client)
        server.wait_for(server.idle)
    assert server.ends == ["cancelled"]


def test_a_handler_that_fails_ends_the_connection(server: LaneServer) -> None:
    with connected(server.port) as client:
        client.sendall(post(b"/fail"))
        assert all_of(client).endswith(b"half\r\n")
    server.wait_for(server.idle)


# back-pressure


def test_a_client_that_stops_reading_holds_the_stream_back(server: LaneServer) -> None:
    with connected(server.port) as client:
        client.sendall(post(b"/stream"))
        before = -1
        while before != server.blocks:  # until the kernel's buffers and ours are full
            before = server.blocks
            assert before < 4096, "64 MiB went to a client that does not read"
            time.sleep(0.1)
        connection = server.clients[0]._connection
        assert server.in_loop(connection.transport.get_write_buffer_size) < 256 * 1024
        server.open_gate()
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.read() == server.blocks * BLOCK
        assert server.blocks >= before


@pytest.mark.parametrize(
    "request_", [post(b"/stream"), post(b"/large"), GET.replace(b"plain", b"large")]
)
def test_a_client_that_never_reads_is_let_go(request_: bytes) -> None:
    with lane_server(client_s=0.3) as server, connected(server.port) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.sendall(request_)
        server.wait_for(server.write_paused)
        server.wait_for(server.idle)
        received = all_of(client)
    assert 0 < len(received) < 512 * len(BLOCK)
    assert not received.endswith(b"\r\n0\r\n\r\n")


# the end


def stopped(
    path: bytes, *, drain_s: float, then: Callable[[LaneServer], object] = lambda server: None
) -> tuple[list[str], bytes]:
    """How a request ended that the server's stop found, and what its client got.

    then: called once the stop has begun.
    """
    running = ExitStack()
    server = running.enter_context(lane_server(timeout_graceful_shutdown=drain_s))
    with running, connected(server.port) as idle, connected(server.port) as client:
        assert asked(idle, post(b"/echo"))[0] == 200
        client.sendall(post(path))
        server.wait_for(lambda: len(server.clients) == 2)
        stopping = threading.Thread(target=running.pop_all().close)
        stopping.start()
        assert all_of(idle) == b""
        server.wait_for(lambda: not server.clients[1].keep_alive)
        then(server)
        received = all_of(client)
        stopping.join()
    assert not server.state.tasks
    return server.ends[1:], received


@pytest.mark.parametrize("path", [b"/hold", b"/stream"])
def test_a_stop_waits_for_what_runs_and_not_for_what_idles(path: bytes) -> None:
    ends, received = stopped(path, drain_s=60, then=LaneServer.open_gate)
    assert ends == ["200"]
    assert received.endswith((b"{}", b"\r\n0\r\n\r\n"))


def test_what_runs_beyond_the_stops_limit_is_told_and_cut_off() -> None:
    assert stopped(b"/hold", drain_s=0.1) == (["shutdown"], b"")


@pytest.mark.parametrize("path", [b"/echo", b"/plain", b"/refuse"])
def test_an_idle_connection_is_closed(path: bytes) -> None:
    with lane_server(keep_alive_s=0.2, headers_s=30) as server, connected(server.port) as client:
        asked(client, post(path))
        assert all_of(client) == b""


@pytest.mark.parametrize(
    ("request_", "answered"),
    [
        (post(b"/echo"), True),
        (post(b"/refuse"), True),
        (post(b"/hold"), False),
        (post(b"/stream"), False),
        (post(b"/echo")[:-1], False),
    ],
    ids=["answered", "refused", "left waiting", "left reading", "left in the body"],
)
def test_a_connection_that_has_ended_is_freed_at_once(
    server: LaneServer, request_: bytes, answered: bool, no_collector: None
) -> None:
    del no_collector
    with connected(server.port) as client:
        client.sendall(request_)
        if answered:
            read_answer(client)
        server.wait_for(lambda: bool(server.clients))
        found = server.in_loop(lambda: [weakref.ref(one) for one in server.state.connections])
        assert len(found) == 1
    server.wait_for(server.idle)
    server.forget()
    server.wait_for(lambda: server.in_loop(lambda: found[0]() is None))


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is freed but what nothing refers to."""
    gc.disable()
    yield
    gc.enable()
