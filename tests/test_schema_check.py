"""Callers' schemas are checked in bounded time, without the network and without their regexes."""

import time
import urllib.request
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.schema_check import complies

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ({"name": "Anna", "age": 7}, PERSON, True),
        ({"name": "Anna", "age": "7"}, PERSON, False),
        ({"age": 7}, PERSON, False),
        ({"name": "Anna", "x": 1}, PERSON, False),
        ([1, 2], {"items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "integer"}}}, True),
        (["x"], {"items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "integer"}}}, False),
        ([1, 1], {"uniqueItems": True}, False),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], {"uniqueItems": True}, False),
        ([1, 2], {"uniqueItems": True}, True),
        ([1, 1], {"uniqueItems": False}, True),
        ("x", {"enum": ["x", "y"]}, True),
        # Draft 7 has a meaning of its own for a list of items.
        (
            ["x", 1],
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "items": [{"type": "string"}, {"type": "string"}],
            },
            False,
        ),
    ],
)
def test_values_are_checked(value: Any, schema: dict[str, Any], expected: bool) -> None:
    assert complies(value, schema) is expected


def test_regular_expressions_are_not_looked_at() -> None:
    catastrophic = "^(a+)+$"
    start = time.monotonic()
    assert complies("a" * 60 + "!", {"pattern": catastrophic}) is True
    schema = {
        "type": "object",
        "patternProperties": {catastrophic: {"type": "integer"}},
        "additionalProperties": False,
    }
    assert complies({"a" * 60 + "!": "x"}, schema) is True
    assert complies([], schema) is False
    assert time.monotonic() - start < 5


def test_a_schema_that_explodes_is_given_up() -> None:
    levels = {
        f"l{i}": {"anyOf": [{"$ref": f"#/$defs/l{i + 1}"}, {"$ref": f"#/$defs/l{i + 1}"}]}
        for i in range(40)
    }
    schema = {"$defs": levels | {"l40": {"type": "string"}}, "$ref": "#/$defs/l0"}
    start = time.monotonic()
    assert complies(3, schema) is None
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "no such type"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"$schema": ["x"]},
        {"$schema": 5},
        {"multipleOf": 0},
    ],
)
def test_a_schema_in_error_gives_no_verdict(schema: dict[str, Any]) -> None:
    assert complies(1, schema) is None


@pytest.mark.parametrize("ref", ["http://127.0.0.1:9/x", "file:///etc/hostname"])
def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch, ref: str) -> None:
    fetched: list[object] = []
    monkeypatch.setattr(urllib.request, "urlopen", fetched.append)
    assert complies(1, {"$ref": ref}) is None
    assert complies(1, {"$id": ref, "$ref": "other"}) is None
    assert fetched == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just("#"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
keywords = st.sampled_from(
    [
        *("$schema", "$ref", "$defs", "$id", "$dynamicRef", "type", "properties", "items"),
        *("additionalProperties", "patternProperties", "uniqueItems", "required", "enum"),
        *("anyOf", "allOf", "not", "multipleOf", "minimum", "contains", "dependencies", "a"),
    ]
)


@given(value=json_values, schema=st.dictionaries(keywords, json_values, max_size=4))
def test_no_schema_raises(value: Any, schema: dict[str, Any]) -> None:
    assert complies(value, schema) in (True, False, None)
