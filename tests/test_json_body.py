"""Request bodies are strict JSON objects of bounded depth that can be encoded again."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Limits
from gateway.errors import BadRequest
from gateway.json_body import parse_body

LIMITS = Limits(depth=5)


def nested(levels: int) -> bytes:
    """A body with `levels` levels, its own braces included."""
    inner = levels - 1
    return b'{"model":"m","x":' + b"[" * inner + b"]" * inner + b"}"


def test_a_plain_body_comes_through() -> None:
    body = parse_body(
        '{"model": "m", "messages": [{"content": "é 😀"}], "t": 0.5}'.encode(), LIMITS
    )
    assert body == {"model": "m", "messages": [{"content": "é 😀"}], "t": 0.5}


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse_body(rb'{"model": "m", "x": "\ud83d\ude00"}', LIMITS)["x"] == "😀"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'"model"',
        b"null",
        b"{",
        b'{"model": "m"} trailing',
        b'{"model": "m", "x": NaN}',
        b'{"model": "m", "x": Infinity}',
        b'{"model": "m", "x": -Infinity}',
        b'{"model": "m", "x": 1e999}',
        b'{"model": "m", "x": ' + b"9" * 5000 + b"}",
        rb'{"model": "m", "x": "\ud83d"}',
        rb'{"model": "m", "x": {"\uDC00": 1}}',
        b'{"model": "m", "x": "\xff"}',
        b'{"model": "m", "x": "\xed\xa0\x80"}',
        '{"model": "m"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"model": "m"}',
        nested(6),
        nested(90_000),
        nested(2_000_000),
        b'{"model":"m","x":[' + b"{}," * 100_000 + b"{}]}",
        b'{"model":"m","x":' + b'{"a":' * 6 + b"1" + b"}" * 7,
    ],
)
def test_other_bodies_are_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_body(raw, LIMITS)


def test_depth_is_counted_from_the_body_itself() -> None:
    assert parse_body(nested(5), LIMITS)["model"] == "m"


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert len(parse_body(b'{"model":"m","x":[' + b"[]," * 50 + b"[]]}", LIMITS)["x"]) == 51


def test_brackets_in_strings_are_not_counted() -> None:
    prompt = '{"\\\\[' * 60_000
    body = json.dumps({"model": "m", "prompt": prompt}).encode()
    assert parse_body(body, LIMITS)["prompt"] == prompt


@pytest.mark.parametrize("filler", [b'\\"', b'"', b"{", b"[]", b'"{'])
def test_a_hostile_body_takes_no_longer(filler: bytes) -> None:
    start = time.process_time()
    with pytest.raises(BadRequest):
        parse_body(b'{"model": "m", "x": "' + filler * (2**21 // len(filler)), LIMITS)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("model", [b'""', b"null", b"1", b'["m"]'])
def test_the_model_must_be_named(model: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_body(b'{"model": ' + model + b"}", LIMITS)
    assert refused.value.param == "model"


def test_a_missing_model_is_named() -> None:
    with pytest.raises(BadRequest) as refused:
        parse_body(b"{}", LIMITS)
    assert refused.value.param == "model"


def test_the_error_does_not_repeat_the_body() -> None:
    with pytest.raises(BadRequest) as refused:
        parse_body(b'{"model": "m", "prompt": my-private-prompt}', LIMITS)
    assert "private" not in refused.value.message
    assert "byte 25" in refused.value.message


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_give_an_object_or_bad_request(raw: bytes) -> None:
    try:
        body = parse_body(raw, LIMITS)
    except BadRequest:
        return
    json.dumps(body, ensure_ascii=False).encode()


@given(st.text(alphabet='{}[]",:\\udDcC8001eE+-.NaInfity ', max_size=40))
def test_whatever_is_taken_can_be_sent_on_as_json(text: str) -> None:
    try:
        body = parse_body(f'{{"model":"m","x":{text}}}'.encode(), LIMITS)
    except BadRequest:
        return
    json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
