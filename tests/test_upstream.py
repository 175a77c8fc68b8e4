"""The hot path's HTTP client against servers that behave, break and lie, over real sockets."""

import asyncio
import contextlib
import fcntl
import gc
import socket
import struct
import termios
import threading
from collections.abc import AsyncIterator

import pytest

from gateway.upstream import (
    BadResponse,
    CannotConnect,
    ConnectionLost,
    Upstream,
    UpstreamError,
    UpstreamTimeout,
)
from tests.raw_server import Handler, RawServer, raw_server, read_request
from tests.upstream_calls import CHUNKED, OK, WAYS, answer_to, ask, body_of


@contextlib.asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[tuple[Upstream, RawServer]]:
    async with raw_server(handler) as server:
        upstream = Upstream(server.url, connect_s=5)
        try:
            yield upstream, server
        finally:
            await upstream.close()
            assert upstream.open_connections == 0


def answering(*parts: bytes, close: bool = False) -> Handler:
    """Answers every request of a connection with `parts`, one write each."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if close:
                return

    return handler


class Listener:
    """Sends `parts` once and waits for the client to close."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for part in self._parts:
            writer.write(part)
        self.asked.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        self.left.set()


@pytest.mark.parametrize("way", WAYS)
async def test_a_sized_body_is_had_and_the_connection_kept(way: str) -> None:
    async with served(answering(OK)) as (upstream, server):
        for _ in range(3):
            with await ask(upstream) as response:
                assert response.status == 200
                assert response.header(b"content-type") == b"text/plain"
                assert await body_of(response, way) == b"hello"
        assert server.connections == 1
        assert upstream.open_connections == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_chunked_body_is_decoded(way: str) -> None:
    handler = answering(CHUNKED, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")
    async with served(handler) as (upstream, server):
        for _ in range(2):
            assert await answer_to(upstream, way) == b"abcde"
        assert server.connections == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_body_without_length_ends_with_its_connection(way: str) -> None:
    handler = answering(b"HTTP/1.1 200 OK\r\n\r\n", b"all of it", close=True)
    async with served(handler) as (upstream, server):
        for expected in (1, 2):
            assert await answer_to(upstream, way) == b"all of it"
            assert server.connections == expected


async def test_an_interim_response_is_passed_over() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n"
    async with served(answering(hints, hints, OK)) as (upstream, server):
        for _ in range(2):
            with await ask(upstream) as response:
                assert response.status == 200
                assert response.header(b"x") is None
                assert await body_of(response) == b"hello"
        assert server.connections == 1


async def test_a_stale_connection_is_replaced_unseen() -> None:
    async with served(answering(OK, close=True)) as (upstream, server):
        for expected in (1, 2, 3):
            assert await answer_to(upstream) == b"hello"
            assert server.connections == expected


async def test_a_fresh_connection_that_closes_is_an_error_not_a_loop() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with served(handler) as (upstream, server):
        with pytest.raises(ConnectionLost):
            await ask(upstream)
        assert server.connections == 1


async def test_a_body_that_breaks_off_is_an_error_after_its_bytes() -> None:
    came: list[bytes] = []
    async with served(answering(CHUNKED + b"3\r\nabc\r\n", close=True)) as (upstream, _):
        with await ask(upstream) as response, pytest.raises(ConnectionLost):
            await response.pipe(came.append, 5)
    assert b"".join(came) == b"abc"


async def test_nobody_listening_is_cannot_connect() -> None:
    async with raw_server(answering(OK)) as server:
        url = server.url
    upstream = Upstream(url, connect_s=5)
    with pytest.raises(CannotConnect, match="Connection refused"):
        await ask(upstream)
    assert upstream.open_connections == 0


async def test_what_is_no_host_name_is_cannot_connect() -> None:
    with pytest.raises(CannotConnect, match="host name"):
        await ask(Upstream("http://two..dots", connect_s=5))


async def test_silence_before_the_first_byte_ends_the_call_at_the_engine() -> None:
    listener = Listener()
    async with served(listener.handle) as (upstream, _):
        with pytest.raises(UpstreamTimeout):
            await ask(upstream, first_byte_s=0.01)
        await listener.left.wait()


async def test_silence_in_mid_body_ends_the_call_at_the_engine() -> None:
    listener = Listener(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
    async with served(listener.handle) as (upstream, _):
        response = await ask(upstream)
        with pytest.raises(UpstreamTimeout):
            await response.read(0.01, 100)
        await listener.left.wait()
        response.release()


@pytest.mark.parametrize("stage", ["headers", "read", "pipe", "paused", "unread"])
async def test_a_cancelled_call_is_closed_at_the_engine(stage: str) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"
    listener = Listener(*() if stage == "headers" else (head,))
    there = asyncio.Event()

    async def call(upstream: Upstream) -> None:
        with await ask(upstream) as response:

            def sink(_: bytes) -> None:
                if stage == "paused":
                    response.pause()
                there.set()

            if stage == "unread":
                there.set()
                await asyncio.Event().wait()
            elif stage == "read":
                there.set()
                await response.read(5, 100)
            else:
                await response.pipe(sink, 5)

    async with served(listener.handle) as (upstream, _):
        task = asyncio.create_task(call(upstream))
        await (listener.asked if stage == "headers" else there).wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await listener.left.wait()


async def test_a_response_released_early_is_closed_at_the_engine() -> None:
    listener = Listener(CHUNKED + b"3\r\nabc\r\n")
    async with served(listener.handle) as (upstream, _):
        (await ask(upstream)).release()
        await listener.left.wait()


async def test_release_is_idempotent_and_does_not_free_another_call() -> None:
    async with served(answering(OK)) as (upstream, server):
        first = await ask(upstream)
        await body_of(first)
        first.release()
        second = await ask(upstream)
        first.release()
        third = await ask(upstream)
        assert server.connections == 2
        for response in (second, third):
            assert await body_of(response) == b"hello"
            response.release()


async def test_an_unread_body_is_not_reused() -> None:
    async with served(answering(OK)) as (upstream, server):
        for _ in range(2):
            (await ask(upstream)).release()
        assert server.connections == 2


class Torrent:
    """Sends more than any socket holds, and says when the sockets were full first."""

    def __init__(self) -> None:
        self.total = 64 * 2**20
        self.written = 0
        self.full = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % self.total)
        while self.written < self.total:
            writer.write(bytes(65_536))
            self.written += 65_536
            if writer.transport.get_write_buffer_size():
                self.full.set()
            await writer.drain()


@pytest.mark.parametrize("way", WAYS)
async def test_a_body_that_nobody_reads_waits_at_the_engine(way: str) -> None:
    torrent = Torrent()
    async with served(torrent.handle) as (upstream, _):
        with await ask(upstream) as response:
            written = -1
            while torrent.written != written:  # Until hundreds of rounds bring nothing more.
                written = torrent.written
                for _ in range(300):
                    await asyncio.sleep(0)
            assert torrent.full.is_set()
            assert written < torrent.total / 4
            assert len(await body_of(response, way)) == torrent.total


async def test_a_paused_pipe_slows_the_engine() -> None:
    torrent = Torrent()
    came = calls = 0
    async with served(torrent.handle) as (upstream, _):
        with await ask(upstream) as response:

            def sink(part: bytes) -> None:
                nonlocal came, calls
                came, calls = came + len(part), calls + 1
                if calls == 1:
                    response.pause()

            pipe = asyncio.create_task(response.pipe(sink, 60))
            await torrent.full.wait()
            for _ in range(300):
                await asyncio.sleep(0)
            assert calls == 1
            assert torrent.written < torrent.total / 4
            response.resume()
            await pipe
            assert came == torrent.total


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 150 Why\r\ncontent-length: 4\r\n\r\nevil" + OK,
        b"HTTP/1.1 100 Continue\r\ntransfer-encoding: chunked\r\n\r\n" + OK,
        b"HTTP/1.1 099 Low\r\n\r\n" + OK,
    ],
)
async def test_what_is_no_answer_is_refused(answer: bytes) -> None:
    async with served(answering(answer)) as (upstream, _):
        with pytest.raises(BadResponse):
            await ask(upstream)


async def test_a_body_over_the_limit_is_refused() -> None:
    async with served(answering(OK)) as (upstream, _):
        with await ask(upstream) as response, pytest.raises(BadResponse):
            await response.read(5, 4)


@pytest.mark.parametrize("close", [b"", b"connection: close\r\n"])
@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"x"])
async def test_more_than_the_answer_ends_the_connection(more: bytes, close: bytes) -> None:
    answer = OK.replace(b"content-length", close + b"content-length")
    async with served(answering(answer + more)) as (upstream, server):
        for expected in (1, 2):
            assert await answer_to(upstream) == b"hello"
            assert server.connections == expected


async def test_what_comes_between_two_calls_is_not_the_second_answer() -> None:
    """Not even where the event loop has had no time to see it."""
    served_first, say_more, said_more = (threading.Event() for _ in range(3))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            first, _ = listening.accept()
            with first:
                first.recv(65_536)
                first.sendall(OK)
                served_first.set()
                say_more.wait()
                first.sendall(OK.replace(b"hello", b"evil!"))
                unacknowledged = 1
                while unacknowledged:
                    sizes = fcntl.ioctl(first, termios.TIOCOUTQ, bytes(4))
                    (unacknowledged,) = struct.unpack("i", sizes)
                said_more.set()
                second, _ = listening.accept()
                with second:
                    second.recv(65_536)
                    second.sendall(OK)
                    second.recv(65_536)

        engine = threading.Thread(target=serve)
        engine.start()
        upstream = Upstream(f"http://127.0.0.1:{listening.getsockname()[1]}", connect_s=5)
        assert await answer_to(upstream) == b"hello"
        say_more.set()
        said_more.wait()  # The loop stands still.
        assert await answer_to(upstream) == b"hello"
        await upstream.close()
        engine.join()


@pytest.mark.parametrize("stage", ["headers", "read", "pipe", "paused", "endless"])
async def test_close_ends_calls_in_flight(stage: str) -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\nabc" if stage == "endless" else CHUNKED + b"3\r\nabc\r\n"
    listener = Listener(*() if stage == "headers" else (head,))
    there = asyncio.Event()

    async def call(upstream: Upstream) -> None:
        with await ask(upstream) as response:

            def sink(_: bytes) -> None:
                if stage == "paused":
                    response.pause()
                there.set()

            if stage == "read":
                there.set()
                await response.read(5, 100)
            else:
                await response.pipe(sink, 5)

    async with served(listener.handle) as (upstream, _):
        task = asyncio.create_task(call(upstream))
        await (listener.asked if stage == "headers" else there).wait()
        await upstream.close()
        assert upstream.open_connections == 0
        with pytest.raises(ConnectionLost):
            await task
        with pytest.raises(CannotConnect):
            await ask(upstream)
        await listener.left.wait()


async def test_a_call_whose_connection_was_kept_does_not_outlive_close() -> None:
    second = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await read_request(reader)
        second.set()
        await reader.read()

    async with served(handler) as (upstream, _):
        assert await answer_to(upstream) == b"hello"
        task = asyncio.create_task(ask(upstream))
        await second.wait()
        await upstream.close()
        with pytest.raises(UpstreamError):
            await task
        assert upstream.open_connections == 0


async def test_an_answer_before_the_request_was_taken_is_had_but_not_followed_by_another() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await gone.wait()

    gone = asyncio.Event()
    async with served(handler) as (upstream, server):
        for expected in (1, 2):
            with await ask(upstream, bytes(64 * 2**20)) as response:
                assert response.status == 413
                assert await body_of(response) == b"no"
            assert server.connections == expected
        gone.set()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parts", [(), (CHUNKED,), (CHUNKED, b"3\r\nab")], ids=len)
async def test_a_lost_connection_is_freed_at_once(way: str, parts: tuple[bytes, ...]) -> None:
    async with served(answering(*parts, close=True)) as (upstream, _):
        others = connections_alive()
        gc.disable()
        try:
            with pytest.raises(ConnectionLost) as caught:
                await answer_to(upstream, way)
            del caught
            await asyncio.sleep(0)
            left = connections_alive()
            assert not [one for one in left if not any(one is other for other in others)]
        finally:
            gc.enable()


def connections_alive() -> list[object]:
    """Those that other tests have left to the collector too."""
    return [one for one in gc.get_objects() if type(one).__name__ == "_Connection"]
