"""An answer is judged by its form: length, emptiness, loops, JSON."""

from typing import Any

import pytest

from gateway.answers import Answer
from gateway.judge import Verdict, judge

SCHEMA = {"type": "object", "required": ["a"]}


def verdict(
    text: str = "Hello",
    finish_reason: str | None = "stop",
    *,
    tool: bool = False,
    wants_json: bool = False,
    schema: dict[str, Any] | None = None,
) -> Verdict:
    answer = Answer(text, finish_reason, has_tool_calls=tool)
    return judge(answer, wants_json=wants_json, json_schema=schema)


def test_an_ordinary_answer() -> None:
    assert verdict() == Verdict(
        finish_reason="stop",
        empty=False,
        chars=5,
        loops=False,
        json_valid=None,
        schema_valid=None,
    )


@pytest.mark.parametrize(
    ("text", "tool", "empty"), [("", False, True), (" \n", False, True), ("", True, False)]
)
def test_an_answer_without_words_or_calls_is_empty(text: str, tool: bool, empty: bool) -> None:
    assert verdict(text, tool=tool).empty is empty


def test_a_loop_is_seen() -> None:
    assert verdict("over and over " * 20, "length").loops


@pytest.mark.parametrize(
    ("text", "json_valid", "schema_valid"),
    [
        ('{"a": 1}', True, True),
        ('{"b": 1}', True, False),
        ("[]", True, False),
        ('{"a": 1', False, False),
        ('```json\n{"a": 1}\n```', False, False),
        ('{"a": NaN}', False, False),
        ("", False, False),
        ("[" * 100_000, False, False),
    ],
)
def test_json_is_judged_where_it_was_asked_for(
    text: str, json_valid: bool, schema_valid: bool
) -> None:
    judged = verdict(text, wants_json=True, schema=SCHEMA)
    assert (judged.json_valid, judged.schema_valid) == (json_valid, schema_valid)
    assert verdict(text, wants_json=True).schema_valid is None
    assert verdict(text, wants_json=True).json_valid is json_valid
    assert verdict(text, schema=SCHEMA).json_valid is None


def test_json_cut_by_the_token_limit_is_invalid() -> None:
    assert verdict('{"a": ', "length", wants_json=True).json_valid is False


@pytest.mark.parametrize(
    "unjudged", [{"finish_reason": None}, {"finish_reason": "tool_calls", "tool": True}]
)
def test_json_is_not_judged_of_calls_and_of_what_was_not_seen_whole(
    unjudged: dict[str, Any],
) -> None:
    judged = verdict('{"a": ', wants_json=True, schema=SCHEMA, **unjudged)
    assert (judged.json_valid, judged.schema_valid) == (None, None)
