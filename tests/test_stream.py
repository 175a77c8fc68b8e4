"""One stream on its way: who speaks is checked before all else; then every byte passes."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import RequestRecord
from gateway.errors import EngineFailed, ShuttingDown
from gateway.metrics import Metrics, Subject
from gateway.routes import GENERATING, Route
from gateway.sample import Kept
from gateway.sse import EventTooLarge
from gateway.stream import Stream
from tests.noted_connection import NotedConnection, client_on

NAME = "acme/support@1:0123456789ab"
COMMENT = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
ERROR = {
    Route.CHAT: b'data: {"error":{"message":"secret"}}\n\n',
    Route.COMPLETIONS: b'data: {"error":{"message":"secret"}}\n\n',
    Route.RESPONSES: b'event: error\ndata: {"message":"secret"}\n\n',
    Route.MESSAGES: b'event: error\ndata: {"error":{"message":"secret"}}\n\n',
}


def named(route: Route, model: str = NAME) -> bytes:
    """The first event that names the model."""
    body: dict[str, Any]
    if route is Route.RESPONSES:
        head, body = b"event: response.created\n", {"response": {"model": model}}
    elif route is Route.MESSAGES:
        head, body = b"event: message_start\n", {"message": {"model": model}}
    else:
        head, body = b"", {"id": "c", "model": model, "choices": [{"delta": {"content": "a"}}]}
    return head + b"data: " + _json(body) + b"\n\n"


def token(route: Route, text: str = "b", **more: Any) -> bytes:
    """An event with a token, which names nobody."""
    head = {
        Route.RESPONSES: b"event: response.output_text.delta\n",
        Route.MESSAGES: b"event: content_block_delta\n",
    }.get(route, b"")
    return head + b"data: " + _json({"delta": text, **more}) + b"\n\n"


def last(route: Route) -> bytes:
    """The end of the stream."""
    return {
        Route.RESPONSES: b'event: response.completed\ndata: {"response":{}}\n\n',
        Route.MESSAGES: b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    }.get(route, DONE)


def usage(route: Route, prompt: int, completion: int) -> bytes:
    """The event that tells the usage; of chat and text completions, one of its own."""
    if route in (Route.CHAT, Route.COMPLETIONS):
        told = {"prompt_tokens": prompt, "total_tokens": 9, "completion_tokens": completion}
        return b"data: " + _json({"model": NAME, "choices": [], "usage": told}) + b"\n\n"
    told = {"input_tokens": prompt, "output_tokens": completion}
    if route is Route.MESSAGES:
        return b"event: message_delta\ndata: " + _json({"usage": told}) + b"\n\n"
    return b"event: response.in_progress\ndata: " + _json({"response": {"usage": told}}) + b"\n\n"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Rig:
    """A stream, and what came of it."""

    def __init__(
        self, route: Route = Route.CHAT, *, hide_usage: bool = False, wanted: bool = False
    ) -> None:
        self.connection = NotedConnection()
        self.client = client_on(self.connection)
        self.record = RequestRecord("r", "POST")
        self.series = Metrics().call(Subject("acme", "support", "1"), route)
        self.kept = Kept(wanted=wanted)
        self.stream = Stream(
            self.client,
            self.record,
            self.series,
            route,
            engine_name=_json(NAME),
            head=b"x-loraplex-version: acme/support@1\r\nx-request-id: r\r\n",
            hide_usage=hide_usage,
            kept=self.kept,
        )

    def take(self, *chunks: bytes) -> None:
        """The engine's next pieces."""
        for chunk in chunks:
            self.stream.take(chunk)

    @property
    def head(self) -> bytes:
        """The answer's head, as it went out."""
        return self.connection.sent.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        """What the client got, out of HTTP's chunks."""
        rest, body = self.connection.sent.partition(b"\r\n\r\n")[2], b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return body


EVERY = pytest.mark.parametrize("route", sorted(GENERATING))


def whole(route: Route) -> list[bytes]:
    """The events of a whole stream: three tokens, and the engine's count of 4 and 3."""
    # The first event of the older ones holds a token too.
    first = [] if route in (Route.CHAT, Route.COMPLETIONS) else [token(route)]
    return [
        COMMENT,
        named(route),
        *first,
        token(route),
        token(route),
        usage(route, 4, 3),
        last(route),
    ]


@EVERY
@given(cuts=st.lists(st.integers(0, 2000), max_size=6))
def test_however_it_is_cut_every_byte_passes(route: Route, cuts: list[int]) -> None:
    data = b"".join(whole(route))
    rig = Rig(route)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    rig.take(*(data[a:b] for a, b in itertools.pairwise(edges) if a < b))
    rig.stream.check_end()
    rig.stream.settle()
    rig.stream.end()
    assert rig.body == data
    assert rig.client.complete
    record = rig.record
    assert (record.prompt_tokens, record.completion_tokens, record.estimated) == (4, 3, False)
    assert record.sent_status == 200


@pytest.mark.parametrize("route", [Route.CHAT, Route.COMPLETIONS])
def test_a_usage_event_that_was_not_asked_for_is_taken_out(route: Route) -> None:
    rig = Rig(route, hide_usage=True)
    events = whole(route)
    rig.take(*events)
    rig.stream.settle()
    assert rig.body == b"".join(events).replace(usage(route, 4, 3), b"")
    assert rig.record.completion_tokens == 3


def test_the_head_goes_out_once_and_with_the_first_event() -> None:
    rig = Rig()
    rig.take(named(Route.CHAT)[:20])
    assert not rig.client.started
    rig.take(named(Route.CHAT)[20:], token(Route.CHAT))
    lines = rig.head.split(b"\r\n")
    assert lines.count(b"x-loraplex-version: acme/support@1") == 1
    assert lines.count(b"content-type: text/event-stream; charset=utf-8") == 1
    assert rig.connection.sent.count(b"HTTP/1.1") == 1


# who speaks


@EVERY
def test_another_models_stream_is_refused_before_anything_was_sent(route: Route) -> None:
    for model in ("base", "globex/support@1:0123456789ab", NAME + "0", ""):
        for first in (named(route, model), named(route, model) + token(route)):
            rig = Rig(route)
            with pytest.raises(EngineFailed, match="another model"):
                rig.take(first)
            assert rig.connection.sent == b""
            assert rig.record.sent_status is None


@EVERY
def test_tokens_of_nobody_are_refused_before_anything_was_sent(route: Route) -> None:
    rig = Rig(route)
    with pytest.raises(EngineFailed, match="another model"):
        rig.take(token(route) + named(route)[:9])
    assert rig.connection.sent == b""


@EVERY
def test_the_name_is_looked_for_until_it_is_found(route: Route) -> None:
    """A first block of comments names nobody, and must not end the search."""
    for stranger in (named(route, "base"), token(route), token(route) + named(route)[:5]):
        rig = Rig(route)
        rig.take(COMMENT + COMMENT, COMMENT)
        with pytest.raises(EngineFailed, match="another model"):
            rig.take(stranger)
        assert rig.body == 3 * COMMENT


@EVERY
def test_what_is_said_of_models_later_is_the_models_own(route: Route) -> None:
    """As the arguments of a tool call are, in an event that holds them as JSON."""
    later = token(route, model="base", text='"model":"base"')
    rig = Rig(route)
    rig.take(named(route), later)
    assert rig.body == named(route) + later


@EVERY
def test_a_models_words_are_not_its_name(route: Route) -> None:
    rig = Rig(route)
    with pytest.raises(EngineFailed):
        rig.take(token(route, text=f'"model":"{NAME}"'))
    assert rig.connection.sent == b""


# the end


@EVERY
def test_an_error_of_the_engine_is_kept_from_the_client(route: Route) -> None:
    rig = Rig(route)
    with pytest.raises(EngineFailed, match="incomplete"):
        rig.take(named(route) + token(route) + ERROR[route] + token(route) + last(route))
    assert rig.body == named(route) + token(route)
    with pytest.raises(EngineFailed):
        rig.take(token(route))
    assert rig.body == named(route) + token(route)


@EVERY
def test_an_error_at_once_leaves_the_answer_unbegun(route: Route) -> None:
    rig = Rig(route)
    with pytest.raises(EngineFailed):
        rig.take(ERROR[route])
    assert not rig.client.started


@EVERY
def test_a_problem_is_told_in_one_last_event(route: Route) -> None:
    rig = Rig(route)
    rig.take(named(route), token(route)[:-1])
    with pytest.raises(EngineFailed, match="early"):
        rig.stream.check_end()
    rig.stream.end(ShuttingDown("cut off"))
    told = rig.body.removeprefix(named(route))
    assert told.count(b"\n\n") == 1
    assert told.endswith(b"\n\n")
    assert b"cut off" in told
    assert b"secret" not in rig.body
    assert rig.client.complete


def test_an_event_without_an_end_is_refused() -> None:
    rig = Rig()
    with pytest.raises(EventTooLarge):
        rig.take(*[b"x" * 2**20] * 17)
    assert rig.connection.sent == b""


# what is learnt


@EVERY
def test_a_broken_off_answer_is_counted_by_what_was_delivered(route: Route) -> None:
    rig = Rig(route)
    rig.take(*whole(route)[:-2])
    rig.stream.settle()
    assert (rig.record.completion_tokens, rig.record.estimated) == (3, True)


@EVERY
def test_the_first_token_and_the_gaps_between_tokens_are_timed(route: Route) -> None:
    rig = Rig(route)
    rig.take(COMMENT)
    assert rig.record.ttft_s is None
    rig.take(*whole(route)[:-2])
    assert rig.record.ttft_s is not None
    assert 0 <= rig.record.ttft_s <= rig.record.elapsed_s()
    assert sum(rig.series.itl.counts) == 2
    assert 0 <= rig.series.itl.sum <= rig.record.elapsed_s() - rig.record.ttft_s


def test_tokens_that_came_together_share_their_time() -> None:
    rig = Rig()
    rig.take(named(Route.CHAT), token(Route.CHAT) * 5)
    assert sum(rig.series.itl.counts) == 5
    assert max(rig.series.itl.counts) == 5


def test_the_beginning_is_kept_only_if_it_is_wanted() -> None:
    for wanted in (True, False):
        rig = Rig(wanted=wanted)
        rig.take(*whole(Route.CHAT))
        assert rig.kept.take() == (b"".join(whole(Route.CHAT)) if wanted else None)


@EVERY
def test_a_client_that_is_gone_gets_nothing_and_is_counted_all_the_same(route: Route) -> None:
    rig = Rig(route)
    rig.take(*whole(route)[:3])
    before = rig.connection.sent
    rig.client.lost()
    rig.take(*whole(route)[3:])
    rig.stream.end()
    assert rig.connection.sent == before
    assert rig.connection.answers == 0
