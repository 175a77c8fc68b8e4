"""The quick ways of reading and checking a body agree with the plain ones they stand in for."""

import json
import math
from typing import Any, NoReturn
from unittest import mock

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import content
from gateway.config import Limits
from gateway.errors import BadRequest
from gateway.json_body import NotJson, load_json

DEPTH = 64
LIMITS = Limits()

# JSON: msgspec in place of the standard library's, with what that let pass refused by hand.

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def plainly(text: str) -> Any:
    """What the standard library makes of a text. Raises ValueError or RecursionError."""

    def refused(name: str) -> NoReturn:
        raise ValueError(name)

    def finite(number: str) -> float:
        value = float(number)
        if math.isinf(value):
            raise ValueError(number)
        return value

    value = json.loads(text, parse_constant=refused, parse_float=finite)
    json.dumps(value, ensure_ascii=False).encode()  # Raises at half a surrogate pair.
    return value


def exact(value: Any) -> Any:
    """A value that is equal only to one of the same types; -0.0 is not 0.0, nor 1 either 1.0."""
    if isinstance(value, dict):
        return {name: exact(child) for name, child in value.items()}
    if isinstance(value, list):
        return [exact(child) for child in value]
    return type(value), repr(value)


@given(JSON, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_whatever_json_writes_is_read_the_same(
    value: Any, ascii_only: bool, indent: int | str | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert exact(load_json(text, DEPTH)) == exact(value)


@given(JSON)
def test_whatever_is_read_is_sent_on_the_same(value: Any) -> None:
    read = load_json(json.dumps(value), DEPTH)
    assert exact(json.loads(msgspec.json.encode(read))) == exact(value)


@given(st.text(alphabet='{}[]",:\\/ud83cDE+-.0123456789eEtrufalsn \t\n\x00\x1fé', max_size=24))
@example('"\\ud83d\\ude00"')
@example('"\\ud83d"')
@example('"\\ude00\\ud83d"')
@example('{"a":1,"a":2}')
@example("1e400")
@example("-1e400")
@example("1.7976931348623157e308")
@example("4.9e-324")
@example("1e-400")
@example("-0")
@example("-0.0")
@example("01")
@example("1.")
@example("\ufeff1")
@example("9" * 4300)
@example("9" * 4301)
@example("NaN")
@example("-Infinity")
@example("[1,]")
@example('"\x7f"')
@example("\u00a01")
@example("")
def test_every_text_is_taken_or_refused_as_before(text: str) -> None:
    try:
        expected = plainly(text)
    except ValueError:
        with pytest.raises(NotJson):
            load_json(text, DEPTH)
    else:
        assert exact(load_json(text, DEPTH)) == exact(expected)


@given(st.binary(max_size=12))
def test_bytes_that_are_no_utf_8_are_refused_as_before(inside: bytes) -> None:
    raw = b'"' + inside + b'"'
    try:
        expected = plainly(raw.decode())
    except ValueError:
        with pytest.raises(NotJson):
            load_json(raw, DEPTH)
    else:
        assert load_json(raw, DEPTH) == expected


# Conversations: one look over all parts, and the walk with paths only where it finds something.

WORDS = ["text", "url", "file", "item_reference", "tool_addition", "image_embeds", "prompt_embeds"]
NAMES = [*content._KEYS, *content._NESTED, "type", "url", "text", "input", "arguments", "role"]
PARTS = st.recursive(
    st.none()
    | st.integers(0, 1)
    | st.sampled_from([*WORDS, "data:image/png;base64,AA", "http://x", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
        | st.fixed_dictionaries({"type": st.sampled_from(WORDS)}, optional={"content": inner})
    ),
    max_leaves=10,
)


def refusal(value: Any) -> tuple[str, str | None] | None:
    """Why a conversation is refused, and where."""
    try:
        content.conversation("messages", value, LIMITS)
    except BadRequest as error:
        return error.message, error.param
    return None


@given(PARTS)
@example([{"content": [{"source": {"type": "url", "url": "http://x"}}]}])
@example([{"content": {"output": {"source": {"uuid": 0}}}}])
@example([{"type": ["url"]}, {"type": {"a": 1}, "file_id": 0}])
@example({"content": [[{"file_id": "x"}]]})
def test_the_quick_look_changes_no_verdict(value: Any) -> None:
    quick = refusal(value)
    with mock.patch.object(content, "_needs_a_look", return_value=True):
        assert refusal(value) == quick


@given(PARTS)
def test_the_quick_look_finds_whatever_would_be_refused(value: Any) -> None:
    with mock.patch.object(content, "_needs_a_look", return_value=True):
        is_refused = refusal(value) is not None
    assert content._needs_a_look(value) or value == [] or not is_refused
