"""The hot path's HTTP client against servers that behave, break and lie."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.upstream import (
    BadResponse,
    CannotConnect,
    ConnectionLost,
    Response,
    Upstream,
    UpstreamTimeout,
)
from tests.raw_server import Handler, RawServer, raw_server, read_request

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"


@contextlib.asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[tuple[Upstream, RawServer]]:
    async with raw_server(handler) as server:
        upstream = Upstream(server.url, connect_s=5)
        try:
            yield upstream, server
        finally:
            await upstream.close()


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


async def get(upstream: Upstream, first_byte_s: float = 5) -> Response:
    return await upstream.open(b"GET", b"/", first_byte_s=first_byte_s)


async def test_a_sized_body_is_read_and_the_connection_kept() -> None:
    async with served(answering(OK)) as (upstream, server):
        for _ in range(3):
            with await get(upstream) as response:
                assert response.status == 200
                assert response.header(b"content-type") == b"text/plain"
                assert await response.read(5, 100) == b"hello"
        assert server.connections == 1
        assert upstream.open_connections == 1


async def test_a_chunked_body_is_decoded() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    async with served(answering(head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")) as (
        upstream,
        server,
    ):
        for _ in range(2):
            with await get(upstream) as response:
                assert await response.read(5, 100) == b"abcde"
        assert server.connections == 1


async def test_a_body_without_length_ends_with_its_connection() -> None:
    handler = answering(b"HTTP/1.1 200 OK\r\n\r\n", b"all of it", close=True)
    async with served(handler) as (upstream, _):
        with await get(upstream) as response:
            assert await response.read(5, 100) == b"all of it"


async def test_an_interim_response_is_passed_over() -> None:
    async with served(answering(b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n", OK)) as (upstream, _):
        with await get(upstream) as response:
            assert response.status == 200
            assert response.header(b"x") is None
            assert await response.read(5, 100) == b"hello"


async def test_a_stale_connection_is_replaced_unseen() -> None:
    handler = answering(OK, close=True)
    async with served(handler) as (upstream, server):
        for expected in (1, 2, 3):
            with await get(upstream) as response:
                assert await response.read(5, 100) == b"hello"
            assert server.connections == expected


async def test_a_fresh_connection_that_closes_is_an_error_not_a_loop() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with served(handler) as (upstream, server):
        with pytest.raises(ConnectionLost):
            await get(upstream)
        assert server.connections == 1


async def test_a_body_that_breaks_off_is_an_error_after_its_bytes() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
    async with served(answering(head, close=True)) as (upstream, _):
        with await get(upstream) as response:
            chunks = response.chunks(5)
            assert await anext(chunks) == b"abc"
            with pytest.raises(ConnectionLost):
                await anext(chunks)


async def test_nobody_listening_is_cannot_connect() -> None:
    async with raw_server(answering(OK)) as server:
        url = server.url
    upstream = Upstream(url, connect_s=5)
    with pytest.raises(CannotConnect):
        await get(upstream)


async def test_silence_before_the_first_byte_times_out_and_closes() -> None:
    closed = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await reader.read()  # Until the client closes.
        closed.set()

    async with served(handler) as (upstream, _):
        with pytest.raises(UpstreamTimeout):
            await get(upstream, first_byte_s=0.05)
        await asyncio.wait_for(closed.wait(), 5)
        assert upstream.open_connections == 0


async def test_silence_in_mid_body_times_out() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
        await reader.read()

    async with served(handler) as (upstream, _):
        with await get(upstream) as response, pytest.raises(UpstreamTimeout):
            await response.read(0.05, 100)


@pytest.mark.parametrize("moment", ["headers", "body"])
async def test_cancellation_closes_the_call(moment: str) -> None:
    closed, asked = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if moment == "body":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
        asked.set()
        await reader.read()
        closed.set()

    async def call(upstream: Upstream) -> None:
        with await get(upstream) as response:
            await response.read(5, 100)

    async with served(handler) as (upstream, _):
        task = asyncio.create_task(call(upstream))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 5)
        assert upstream.open_connections == 0


async def test_release_is_idempotent_and_does_not_free_another_call() -> None:
    async with served(answering(OK)) as (upstream, server):
        first = await get(upstream)
        await first.read(5, 100)
        first.release()
        second = await get(upstream)
        first.release()
        third = await get(upstream)
        assert server.connections == 2
        for response in (second, third):
            assert await response.read(5, 100) == b"hello"
            response.release()


async def test_an_unread_body_is_not_reused() -> None:
    async with served(answering(OK)) as (upstream, server):
        for _ in range(2):
            (await get(upstream)).release()
        assert server.connections == 2


async def test_a_slow_reader_slows_the_engine_not_memory() -> None:
    total = 64 * 2**20
    written = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while written < total:
            writer.write(bytes(65_536))
            written += 65_536
            await writer.drain()

    async with served(handler) as (upstream, _):
        with await get(upstream) as response:
            before = -1
            while written != before:  # Until the server can write no more.
                before = written
                await asyncio.sleep(0.05)
            assert written < total / 4
            assert len(await response.read(5, total)) == total


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ],
)
async def test_what_is_not_http_or_too_large_is_refused(answer: bytes) -> None:
    async with served(answering(answer)) as (upstream, _):
        with pytest.raises(BadResponse):
            await get(upstream)
        assert upstream.open_connections == 0


async def test_a_body_over_the_limit_is_refused() -> None:
    async with served(answering(OK)) as (upstream, _):
        with await get(upstream) as response, pytest.raises(BadResponse):
            await response.read(5, 4)


async def test_bytes_nobody_asked_for_end_the_connection() -> None:
    async with served(answering(OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")) as (
        upstream,
        server,
    ):
        for _ in range(2):
            with await get(upstream) as response:
                assert await response.read(5, 100) == b"hello"
        assert server.connections == 2
