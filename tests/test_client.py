"""The client's side of a relayed request, on a connection that only notes what it is asked."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client import Client, ClientGone
from gateway.errors import PayloadTooLarge, RequestTimeout
from tests.noted_connection import NotedConnection, client_on

UNASKED = 65_536
LONG_S = 30.0


async def asks(client: Client, limit_bytes: int = 2**20) -> "asyncio.Task[bytes]":
    """A task that asks for the body, and waits for it if it is not there."""
    task = asyncio.create_task(client.body(limit_bytes, LONG_S))
    await asyncio.sleep(0)
    return task


# the body


async def test_a_body_that_is_there_is_given_as_it_came() -> None:
    client, body = client_on(NotedConnection()), b"{}" * 10
    client.body_arrived(body)
    client.body_ended()
    assert await client.body(100, LONG_S) is body


async def test_no_body_is_an_empty_one() -> None:
    client = client_on(NotedConnection())
    client.body_ended()
    assert await client.body(100, LONG_S) == b""


@given(st.lists(st.binary(min_size=1, max_size=3), max_size=9), st.integers(0, 9))
def test_a_body_in_pieces_is_put_together(pieces: list[bytes], asked_after: int) -> None:
    async def scenario() -> None:
        client = client_on(NotedConnection())
        for piece in pieces[:asked_after]:
            client.body_arrived(piece)
        asking = await asks(client)
        for piece in pieces[asked_after:]:
            client.body_arrived(piece)
        client.body_ended()
        body = await asking
        assert body == b"".join(pieces)
        assert type(body) is bytes

    asyncio.run(scenario())


async def test_a_body_in_single_bytes_takes_no_more_room_than_in_one() -> None:
    client, asking_bytes = client_on(NotedConnection()), 50_000
    asking = await asks(client)
    for _ in range(asking_bytes):
        client.body_arrived(b"xy")
    held = client._body
    assert isinstance(held, bytearray)
    assert held.__sizeof__() < 2 * 2 * asking_bytes
    client.body_ended()
    assert await asking == b"xy" * asking_bytes


async def test_a_body_up_to_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    for size, fits in ((100, True), (101, False)):
        client = client_on(NotedConnection())
        asking = await asks(client, 100)
        client.body_arrived(b"x" * size)
        client.body_ended()
        if fits:
            assert await asking == b"x" * 100
        else:
            with pytest.raises(PayloadTooLarge):
                await asking


async def test_a_body_over_the_limit_is_refused_before_its_end() -> None:
    client = client_on(NotedConnection())
    asking = await asks(client, 100)
    for _ in range(1000):
        client.body_arrived(b"x" * 10)
    with pytest.raises(PayloadTooLarge):
        await asking
    assert len(client._body) <= 110


async def test_a_body_over_the_limit_is_refused_where_it_was_there_already() -> None:
    client = client_on(NotedConnection())
    client.body_arrived(b"x" * 101)
    with pytest.raises(PayloadTooLarge):
        await client.body(100, LONG_S)


async def test_a_body_that_does_not_come_in_time_is_refused() -> None:
    client = client_on(NotedConnection())
    client.body_arrived(b"{")
    with pytest.raises(RequestTimeout, match=r"0\.001 s"):
        await client.body(100, 0.001)


async def test_reading_stops_at_the_bytes_that_nobody_asked_for() -> None:
    connection = NotedConnection()
    client = client_on(connection)
    client.body_arrived(b"x" * UNASKED)
    assert connection.reading
    client.body_arrived(b"y")
    assert not connection.reading
    asking = await asks(client)
    assert connection.reading
    client.body_ended()
    assert await asking == b"x" * UNASKED + b"y"


async def test_reading_goes_on_where_all_of_a_large_body_was_there() -> None:
    """Else nobody would see the client go away."""
    connection = NotedConnection()
    client = client_on(connection)
    client.body_arrived(b"x" * (UNASKED + 1))
    client.body_ended()
    assert not connection.reading
    await client.body(2**20, LONG_S)
    assert connection.reading


async def test_a_limit_of_just_the_unasked_bytes_holds() -> None:
    connection = NotedConnection()
    client = client_on(connection)
    asking = await asks(client, UNASKED)
    client.body_arrived(b"x" * UNASKED)
    client.body_arrived(b"y")
    with pytest.raises(PayloadTooLarge):
        await asking


async def test_leave_to_send_is_given_once_and_only_to_who_waits_for_it() -> None:
    for expects, whole, sent in (
        (True, False, b"HTTP/1.1 100 Continue\r\n\r\n"),
        (True, True, b""),
        (False, False, b""),
    ):
        connection = NotedConnection()
        client = client_on(connection, expects_100=expects)
        if whole:
            client.body_ended()
        asking = await asks(client)
        client.body_ended()
        await asking
        assert connection.sent == sent


async def test_what_comes_of_a_body_after_the_answer_is_dropped() -> None:
    client = client_on(NotedConnection())
    client.body_arrived(b"x")
    client.answer(b"", b"no", 401)
    client.body_arrived(b"y")
    client.body_ended()
    assert client._body == b""


# the client goes away


async def test_a_client_that_went_away_before_its_body_was_asked_for_is_gone() -> None:
    for whole in (True, False):
        client = client_on(NotedConnection())
        client.body_arrived(b"x")
        if whole:
            client.body_ended()
        client.lost()
        with pytest.raises(ClientGone):
            await client.body(100, LONG_S)


async def test_a_client_that_goes_away_in_mid_body_is_gone() -> None:
    client = client_on(NotedConnection())
    asking = await asks(client)
    client.lost()
    with pytest.raises(ClientGone):
        await asking


async def test_the_task_is_cancelled_once_and_only_if_wanted() -> None:
    for cancels in (True, False):
        connection = NotedConnection()
        task = asyncio.create_task(asyncio.sleep(LONG_S))
        client = client_on(connection, task=task)
        client.cancels = cancels
        client.lost()
        client.lost()
        assert task.cancelling() == cancels
        assert client.gone
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_client_that_goes_away_with_its_whole_answer_was_answered() -> None:
    client = client_on(NotedConnection())
    client.cancels = True
    client.answer(b"", b"ok")
    client.lost()
    assert not client.gone
    assert client.task.cancelling() == 0


# the answer


HEAD = b"HTTP/1.1 200 \r\ndate: now\r\n"


def _stream(client: Client) -> None:
    client.start(b"a: b\r\n")
    client.write(b"x" * 16)
    client.end()


ANSWERS: dict[str, tuple[Callable[[Client], object], bytes]] = {
    "whole": (lambda client: client.answer(b"a: b\r\n", b"ok"), b"content-length: 2\r\n\r\nok"),
    "empty": (lambda client: client.answer(b"a: b\r\n", b""), b"content-length: 0\r\n\r\n"),
    "stream": (
        _stream,
        b"transfer-encoding: chunked\r\n\r\n10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n",
    ),
}


@pytest.mark.parametrize(("give", "expected"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_byte_for_byte(give: Callable[[Client], object], expected: bytes) -> None:
    connection = NotedConnection()
    client = client_on(connection)
    give(client)
    assert connection.sent == HEAD + b"a: b\r\n" + expected
    assert client.started
    assert client.complete
    assert connection.answers == 1


async def test_the_last_answer_says_so() -> None:
    connection = NotedConnection()
    client_on(connection, keep_alive=False).answer(b"", b"", 503)
    assert connection.sent.startswith(b"HTTP/1.1 503 \r\ndate: now\r\nconnection: close\r\n")


async def test_who_knows_no_chunks_gets_a_stream_as_it_is() -> None:
    connection = NotedConnection()
    client = client_on(connection, keep_alive=False, chunked=False)
    client.start(b"a: b\r\n")
    client.write(b"one")
    client.write(b"two")
    client.end()
    assert connection.sent == HEAD + b"connection: close\r\na: b\r\n\r\nonetwo"


@pytest.mark.parametrize(("give", "expected"), ANSWERS.values(), ids=ANSWERS)
async def test_nothing_is_written_to_a_client_that_is_gone(
    give: Callable[[Client], object], expected: bytes
) -> None:
    connection = NotedConnection()
    client = client_on(connection)
    client.lost()
    give(client)
    assert client.complete
    assert (connection.sent, connection.answers) == (b"", 0)


async def test_an_answer_without_an_end_is_cut_off() -> None:
    connection = NotedConnection()
    client = client_on(connection)
    client.start(b"")
    client.abort()
    assert connection.aborted
    assert not client.complete


# back-pressure


async def test_the_flow_is_told_until_the_answers_end() -> None:
    told: list[str] = []
    client = client_on(NotedConnection())
    client.flow_paused()
    client.on_flow(lambda: told.append("pause"), lambda: told.append("resume"))
    client.flow_paused()
    client.flow_resumed()
    assert told == ["pause", "resume"]
    client.start(b"")
    client.end()
    client.flow_paused()
    client.flow_resumed()
    assert told == ["pause", "resume"]


async def test_a_connection_that_takes_no_more_is_told_at_once() -> None:
    connection, told = NotedConnection(), list[str]()
    connection.write_paused = True
    client_on(connection).on_flow(lambda: told.append("pause"), lambda: told.append("resume"))
    assert told == ["pause"]
