"""JSON answers: strict reading, a schema, and fields against the reference's."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scored import scored, value_on
from training.errors import RecipeError
from training.evaluation.scorers.json_fields import JsonFields, leaves, right_leaves
from training.evaluation.scorers.json_rules import complies, json_valid, load_schema
from training.evaluation.scorers.json_text import Json, NotJson, parse_json

LEAVES = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "a", "b"])
VALUES: st.SearchStrategy[Json] = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("text", ["{}", "[]", ' {"a": [1, null]}\n', '{"a": "\\ud83d\\ude00"}'])
def test_an_object_or_array_alone_is_valid(text: str) -> None:
    assert json_valid("", text) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        '"text"',
        'Sure: {"a": 1}',
        '```json\n{"a": 1}\n```',
        '{"a": 1} {"a": 1}',
        '{"a": 1,}',
        "{'a': 1}",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1, "a": 2}',
        '{"a": "\\ud83d"}',
        '{"\\udc00": 1}',
        '{"a": "unfinished',
        '{"a": "line\nbreak"}',
        "[" * 101 + "]" * 101,
        "[" * 100_000,
        "9" * 5000,
    ],
)
def test_all_else_is_not(text: str) -> None:
    assert json_valid("", text) == 0


@given(VALUES)
def test_whatever_json_writes_is_read_back(value: Json) -> None:
    assert parse_json(json.dumps(value)) == value


def test_the_fault_is_told() -> None:
    with pytest.raises(NotJson, match="given twice"):
        parse_json('{"a": 1, "a": 1}')


def schema_file(folder: Path, schema: Json) -> Path:
    path = folder / "schema.json"
    path.write_text(json.dumps(schema))
    return path


def test_compliance_is_validity_under_the_schema(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"intent": {"$ref": "#/$defs/intent"}, "slots": {"type": "object"}},
        "required": ["intent"],
        "additionalProperties": False,
        "$defs": {"intent": {"enum": ["play", "stop"]}},
    }
    score = complies(load_schema(schema_file(tmp_path, schema)))
    assert score("", '{"intent": "play", "slots": {}}') == 1
    assert score("", '{"intent": "dance"}') == 0
    assert score("", '{"slots": {}}') == 0
    assert score("", '{"intent": "play"} ok') == 0


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "is no JSON Schema at"),
        ([], "must be an object"),
        ({"$ref": "https://example.com/schema.json"}, "put what it needs under"),
        ({"$ref": "other.json#/a"}, "put what it needs under"),
        ({"properties": {"a": {"$ref": "#/$defs/a"}}}, "which it does not hold"),
        ({"properties": {"enum": {"$ref": "#/$defs/a"}}}, "which it does not hold"),
        ({"$ref": "#"}, "without end"),
    ],
)
def test_a_schema_that_cannot_be_used_is_named(tmp_path: Path, schema: Json, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as raised:
        load_schema(schema_file(tmp_path, schema))
    assert raised.value.message.startswith("evaluation.schema: ")


def test_a_schema_that_is_not_there_or_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        load_schema(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("type: object")
    with pytest.raises(RecipeError, match="is no JSON"):
        load_schema(tmp_path / "text.json")


def test_a_property_called_ref_in_an_example_is_no_reference(tmp_path: Path) -> None:
    allows = load_schema(schema_file(tmp_path, {"enum": [{"$ref": "elsewhere"}]}))
    assert allows({"$ref": "elsewhere"})


def test_a_property_may_have_any_name(tmp_path: Path) -> None:
    schema = {"properties": {"$ref": {"type": "string"}, "properties": {"type": "integer"}}}
    allows = load_schema(schema_file(tmp_path, schema))
    assert allows({"$ref": "elsewhere", "properties": 1})
    assert not allows({"$ref": 1})


@pytest.mark.parametrize(
    ("expected", "found", "right"),
    [
        ({"a": 1, "b": {"c": "x"}}, {"a": 1, "b": {"c": "x"}}, 2),
        ({"a": 1, "b": {"c": "x"}}, {"a": 2, "b": {"c": "x"}, "d": 1}, 1),
        ({"a": 1}, {"a": 1.0}, 1),
        ({"a": 1}, {"a": True}, 0),
        ({"a": None}, {"a": None}, 1),
        ({"a": None}, {}, 0),
        ({"a": "x"}, {"a": {"x": "x"}}, 0),
        ({"a": {"x": 1}}, {"a": [1]}, 0),
        # The order of a list does not count, how often an element occurs does.
        (["a", "b", "b"], ["b", "a"], 2),
        ([1, True], [True, True], 1),
        # Elements are paired so that most leaves are right.
        ([{"n": "x", "q": 1}, {"n": "y", "q": 2}], [{"n": "y", "q": 2}, {"n": "x", "q": 3}], 3),
        ([{"n": "x", "q": 1}, {"n": "y", "q": 2}], [{"n": "x", "q": 2}], 1),
        ([[1, 2], [3]], [[3], [2, 1]], 3),
        ([], [], 0),
        ({"a": []}, {"a": {}}, 0),
    ],
)
def test_right_leaves_by_hand(expected: Json, found: Json, right: int) -> None:
    assert right_leaves(expected, found) == right


@given(VALUES, VALUES)
@settings(max_examples=60, deadline=None)
def test_right_leaves_are_some_of_both_and_all_of_the_same(one: Json, other: Json) -> None:
    assert 0 <= right_leaves(one, other) <= min(leaves(one), leaves(other))
    assert right_leaves(one, other) == right_leaves(other, one)
    assert right_leaves(one, one) == leaves(one)


def test_fields_by_hand() -> None:
    references = [
        {"intent": "play", "slots": {"artist": "Bob", "song": "One"}},
        {"intent": "stop", "slots": {}},
        {"intent": "book", "slots": {"city": "Rome"}},
    ]
    answers = [
        json.dumps({"intent": "play", "slots": {"artist": "Bob", "song": "Two"}, "note": "!"}),
        json.dumps({"intent": "stop", "slots": {"city": "Rome"}}),
        "I would like to book",
    ]
    found = scored(JsonFields(), [json.dumps(one) for one in references], answers)
    values = {name.removeprefix("json_fields."): m.value() for name, m in found.items()}
    # Right: play, Bob, stop; answered: 4 + 2 + 0; expected: 3 + 1 + 2.
    assert values["precision"] == pytest.approx(3 / 6)
    assert values["recall"] == pytest.approx(3 / 6)
    assert values["f1"] == pytest.approx(6 / 12)
    assert values["intent.recall"] == pytest.approx(2 / 3)
    assert values["intent.precision"] == pytest.approx(2 / 2)
    # Right: Bob; answered: 2 + 1; expected: 2 + 0 + 1.
    assert values["slots.f1"] == pytest.approx(2 / 6)
    assert set(values) == {
        f"{key}{part}"
        for key in ("", "intent.", "slots.")
        for part in ("precision", "recall", "f1")
    }


def test_a_model_that_gives_no_json_has_no_fields_and_0_everywhere() -> None:
    found = scored(JsonFields(), ['{"intent": "play"}'] * 3, ["play", "", "{"])
    assert [metric.value() for metric in found.values()] == [0.0] * 6


def test_a_key_given_twice_is_no_json_and_so_no_field() -> None:
    found = scored(JsonFields(), ['{"a": 1}'], ['{"a": 1, "a": 1}'])
    assert found["json_fields.f1"].value() == 0


def test_where_there_is_nothing_to_find_the_figure_is_undefined() -> None:
    found = scored(JsonFields(), ["plain text", "{}"], ['{"a": 1}', "{}"])
    assert list(found) == ["json_fields.precision", "json_fields.recall", "json_fields.f1"]
    assert math.isnan(found["json_fields.f1"].value())


def test_a_key_that_the_item_did_not_ask_for_speaks_against_its_precision() -> None:
    found = scored(JsonFields(), ['{"a": 1}', '{"b": 2}'], ['{"a": 1}', '{"a": 5, "b": 2}'])
    assert found["json_fields.a.precision"].value() == 0.5
    assert found["json_fields.a.recall"].value() == 1


def test_top_level_lists_count_in_all_fields() -> None:
    found = scored(JsonFields(), ['[{"a": 1}, {"a": 2}]'], ['[{"a": 2}]'])
    assert found["json_fields.recall"].value() == 0.5
    assert found["json_fields.precision"].value() == 1


def test_only_the_keys_used_most_have_figures_of_their_own() -> None:
    references = [json.dumps({"always": 1, f"once{i:03}": 1}) for i in range(80)]
    found = scored(JsonFields(), references, references)
    assert len(found) == 3 * 51
    assert "json_fields.always.f1" in found


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=5), st.data())
@settings(max_examples=40, deadline=None)
def test_a_resample_scores_as_its_items_alone(
    pairs: list[tuple[Json, Json]], data: st.DataObject
) -> None:
    references = [json.dumps(a) for a, _ in pairs]
    answers = [json.dumps(b) for _, b in pairs]
    rows = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=6))
    drawn = [references[i] for i in rows], [answers[i] for i in rows]
    alone = scored(JsonFields(), *drawn)
    for name, metric in scored(JsonFields(), references, answers).items():
        if name in alone:
            value = value_on(metric, rows)
            assert value == pytest.approx(alone[name].value(), nan_ok=True)
            assert math.isnan(value) or 0 <= value <= 1
