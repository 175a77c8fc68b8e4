"""The load tester's event reader: the same events however the bytes are cut."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.client.said import said_in
from loadtest.client.sse import EventStream

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chunk(delta: dict[str, Any], index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **more}


def text_chunk(text: str) -> dict[str, Any]:
    return {"id": "cmpl-1", "choices": [{"index": 0, "text": text, "logprobs": None}]}


def sse(*events: dict[str, Any] | str, end: str = "\n", colon: str = ": ") -> bytes:
    """Events, each of one data line."""
    lines = []
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
        lines.append(f"data{colon}{data}{end}{end}")
    return "".join(lines).encode()


def read(*pieces: bytes, keep: bool = False) -> EventStream:
    stream = EventStream(keep=keep)
    for moment, piece in enumerate(pieces):
        stream.feed(piece, float(moment))
    stream.finish()
    return stream


def test_only_what_the_model_made_is_a_token() -> None:
    body = sse(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": None, "reasoning": "hm"}),
        chunk({"content": "Hello"}),
        chunk({"content": ""}),
        chunk({"content": '" and \\ "content":"'}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}),
        chunk({}),
        {"id": "chatcmpl-1", "choices": [], "usage": USAGE},
        "[DONE]",
    )
    stream = read(body)
    assert len(stream.times) == 5
    assert stream.usage == USAGE
    assert stream.done
    assert stream.fault is stream.server_error is None


def test_each_event_has_the_time_of_the_read_that_made_it_whole() -> None:
    first, second, third = (sse(chunk({"content": word})) for word in ("a", "b", "c"))
    stream = read(first + second[:-1], second[-1:], third)
    assert list(stream.times) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("colon", [":", ": "])
def test_other_servers_lines(end: str, colon: str) -> None:
    words = [text_chunk("a"), text_chunk("b"), text_chunk("c")]
    comment = f": ping{end}{end}".encode()
    stream = read(comment + sse(*words, "[DONE]", end=end, colon=colon), comment)
    assert len(stream.times) == 3
    assert stream.done


def test_a_mark_of_the_byte_order_and_lines_of_other_fields() -> None:
    stream = read(b"\xef\xbb\xbfid: 1\nretry: 5\n" + sse(text_chunk("a")) + b"event: x\n\n")
    assert len(stream.times) == 1
    assert stream.fault is None


def test_data_of_several_lines_is_one_event() -> None:
    text = json.dumps(chunk({"content": "a"}), indent=1)
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    stream = read((lines + "\n").encode() * 3)
    assert len(stream.times) == 3


def test_choices_take_turns() -> None:
    words = [chunk({"content": word}, index) for word in "abcd" for index in range(3)]
    stream = read(sse(*words, "[DONE]"), keep=True)
    assert len(stream.times) == 12
    said = said_in(stream.events())
    assert said.text == "abcd"
    assert said.texts == ("abcd", "abcd", "abcd")


def test_a_begin_that_changes_is_no_token_lost() -> None:
    words = [chunk({"content": "x"}) | {"id": f"chatcmpl-{number}"} for number in range(20)]
    assert len(read(sse(*words)).times) == 20


def test_text_beside_an_empty_one_counts() -> None:
    deltas = [{"content": "", "reasoning_content": "a"}, {"content": "b", "reasoning_content": ""}]
    assert len(read(sse(*[chunk(delta) for delta in deltas * 4])).times) == 8


def test_the_latest_usage_counts_also_where_it_rides_on_a_token() -> None:
    counts = [{**USAGE, "completion_tokens": number} for number in range(1, 6)]
    stream = read(sse(*[chunk({"content": "x"}, usage=usage) for usage in counts], "[DONE]"))
    assert stream.usage == counts[-1]


def test_an_error_in_mid_stream_is_told_by_its_kind() -> None:
    error = {"error": {"message": "secret words", "type": "InternalServerError", "code": 500}}
    stream = read(sse(chunk({"content": "a"}), error, "[DONE]"))
    assert stream.server_error == "InternalServerError"
    named = read(b'event: error\ndata: {"message": "no"}\n\n')
    assert named.server_error == "error event"


def test_what_is_no_json_is_a_fault() -> None:
    assert read(b"data: <html>\n\n").fault == "event is not JSON"
    assert read(b"data: [1]\n\n").fault == "event is not JSON"


def test_nothing_counts_after_the_end() -> None:
    stream = read(sse(text_chunk("a"), text_chunk("b"), "[DONE]", text_chunk("c")))
    assert len(stream.times) == 2


def test_an_end_without_its_blank_line() -> None:
    assert read(sse(text_chunk("a")) + b"data: [DONE]").done
    broken = read(sse(text_chunk("a")) + sse(text_chunk("b"))[:-1])
    assert not broken.done
    assert len(broken.times) == 1


def as_chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


WORD = sse(chunk({"content": "word"}))


def started(*, keep: bool = False) -> EventStream:
    stream = EventStream(keep=keep)
    stream.feed(WORD, 0.0)
    return stream


def test_a_whole_chunk_of_one_token_event_is_taken_as_it_came() -> None:
    usage = sse(chunk({"content": "x"}, usage=USAGE))
    stream = started()
    assert stream.in_step
    assert stream.take_chunk(as_chunk(WORD), 1.0)
    assert stream.take_chunk(as_chunk(usage), 2.0)
    assert list(stream.times) == [0.0, 1.0, 2.0]
    stream.finish()
    assert stream.usage == USAGE


@pytest.mark.parametrize(
    "data",
    [
        as_chunk(WORD) * 2,
        as_chunk(WORD)[:-2],
        as_chunk(WORD + WORD),
        as_chunk(WORD[:-1]),
        as_chunk(WORD)[:2] + b"0" + as_chunk(WORD)[2:],
        as_chunk(WORD).replace(b"\n\n\r\n", b"\r\r\r\n"),
        as_chunk(WORD[:-2] + b"\r\r" + WORD),
        as_chunk(sse(chunk({"content": ""}))),
        as_chunk(sse(chunk({"role": "assistant", "content": "word"}))),
        as_chunk(sse(chunk({"content": "x" * 5000}))),
        as_chunk(sse("[DONE]")),
        b"0\r\n\r\n",
        b"\r\n",
        b" ",
    ],
)
def test_anything_else_is_left_as_it_came(data: bytes) -> None:
    stream = started()
    assert not stream.take_chunk(data, 1.0)
    assert list(stream.times) == [0.0]


def test_chunks_are_not_taken_in_the_middle_of_an_event_nor_where_words_are_kept() -> None:
    broken = started()
    broken.feed(WORD[:-1], 1.0)
    ended = started()
    ended.feed(sse("[DONE]"), 1.0)
    assert not broken.in_step
    assert not ended.in_step
    assert not started(keep=True).in_step
    assert not EventStream().in_step


_TEXTS = st.text(alphabet=st.sampled_from('ab "\\\n\r\u2028é{}:,'), max_size=6)
_DELTAS = st.one_of(
    st.builds(lambda text: {"content": text}, _TEXTS),
    st.builds(lambda text: {"reasoning_content": text}, _TEXTS),
    st.builds(lambda text: {"content": "", "reasoning": text}, _TEXTS),
    st.just({"role": "assistant", "content": ""}),
    st.just({}),
)
_CHUNKS = st.builds(chunk, _DELTAS, st.integers(0, 2))
_EXTRAS = st.sampled_from([b": comment\n\n", b"\n", b"event: x\n\n", b"data\n\n"])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_cut_of_any_stream_gives_the_same_events(data: st.DataObject) -> None:
    events = data.draw(st.lists(st.one_of(_CHUNKS, st.builds(text_chunk, _TEXTS)), max_size=8))
    ends = ["\n", "\r\n", "\r"]
    parts = []
    for event in [*events, {"choices": [], "usage": USAGE}, "[DONE]"]:
        parts.append(sse(event, end=data.draw(st.sampled_from(ends))))
        if data.draw(st.booleans()):
            parts.append(data.draw(_EXTRAS))
    body = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    expected = sum(_is_token(event) for event in events)
    stream = read(*pieces, keep=True)
    assert len(stream.times) == expected
    assert stream.usage == USAGE
    assert stream.done
    assert stream.fault is None
    assert list(stream.events())[:-1] == events


def _is_token(event: dict[str, Any]) -> bool:
    (choice,) = event["choices"]
    delta = choice.get("delta", choice)
    return any(delta.get(name) for name in ("content", "reasoning_content", "reasoning", "text"))
