"""Streams followed: bytes unchanged but for the usage event nobody asked for."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import EngineFailed, anthropic_body, openai_body
from gateway.routes import Route
from gateway.sse import EventStream, EventTooLarge, Usage, error_event, usage_of

ROLE = b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
WORD = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a \\"usage\\":{ b"}}]}\n\n'
USAGE = (
    b'data: {"id":"c","choices":[],'
    b'"usage":{"prompt_tokens":31,"total_tokens":33,"completion_tokens":2}}\n\n'
)
DONE = b"data: [DONE]\n\n"
CHAT = ROLE + WORD + WORD + USAGE + DONE


def fed(stream: EventStream, data: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return b"".join(stream.feed(data[a:b]) for a, b in itertools.pairwise(edges))


@given(st.lists(st.integers(min_value=0), max_size=8))
def test_however_it_is_cut_only_the_usage_event_goes(cuts: list[int]) -> None:
    stream = EventStream(Route.CHAT, hide_usage=True)
    assert fed(stream, CHAT, cuts) == ROLE + WORD + WORD + DONE
    assert stream.usage == Usage(31, 2)
    assert stream.token_events == 3
    assert stream.ended
    assert not stream.failed


@given(st.lists(st.integers(min_value=0), max_size=8))
def test_a_client_that_asked_gets_every_byte(cuts: list[int]) -> None:
    stream = EventStream(Route.CHAT, hide_usage=False)
    assert fed(stream, CHAT, cuts) == CHAT
    assert stream.usage == Usage(31, 2)


def test_half_an_event_is_held_back() -> None:
    stream = EventStream(Route.CHAT, hide_usage=False)
    assert stream.feed(ROLE + WORD[:10]) == ROLE
    assert not stream.ended


def test_an_event_without_end_is_refused() -> None:
    stream = EventStream(Route.CHAT, hide_usage=False)
    for _ in range(16):
        stream.feed(b"x" * 2**20)
    with pytest.raises(EventTooLarge):
        stream.feed(b"x")


def test_messages_count_deltas_and_the_last_usage() -> None:
    stream = EventStream(Route.MESSAGES, hide_usage=False)
    body = (
        b"event: message_start\n"
        b'data: {"message":{"usage":{"input_tokens":31,"output_tokens":0}}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n'
        b"event: message_delta\n"
        b'data: {"usage":{"input_tokens":31,"output_tokens":2}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )
    assert stream.feed(body) == body
    assert stream.usage == Usage(31, 2)
    assert stream.token_events == 2
    assert stream.ended


def test_responses_count_deltas_and_the_completed_usage() -> None:
    stream = EventStream(Route.RESPONSES, hide_usage=False)
    stream.feed(
        b'event: response.output_text.delta\ndata: {"delta":"x"}\n\n'
        b"event: response.completed\n"
        b'data: {"response":{"usage":{"input_tokens":4,"output_tokens":1}}}\n\n'
    )
    assert stream.usage == Usage(4, 1)
    assert stream.token_events == 1
    assert stream.ended


def test_an_error_event_of_the_engine_is_noticed() -> None:
    stream = EventStream(Route.CHAT, hide_usage=True)
    stream.feed(b'data: {"error":{"message":"boom"}}\n\n')
    assert stream.failed


def test_usage_of_a_body_without_any_is_none() -> None:
    assert usage_of({"id": "x"}) is None
    assert usage_of({"usage": None}) is None


@pytest.mark.parametrize("route", [Route.CHAT, Route.COMPLETIONS, Route.RESPONSES, Route.MESSAGES])
def test_the_error_event_is_one_parseable_event(route: Route) -> None:
    error = EngineFailed("broke off")
    event = error_event(route, openai_body(error), anthropic_body(error, "rid"))
    assert event.count(b"\n\n") == 1
    assert event.endswith(b"\n\n")
    data = next(line for line in event.split(b"\n") if line.startswith(b"data: "))
    assert "broke off" in json.dumps(json.loads(data[6:]))
