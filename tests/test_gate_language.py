"""Gates as people write them, and against what is measured."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import RecipeError
from training.gates import Gate, check_gates, parse_gate
from training.gates.check import overlap

MEASURED = [
    "exact_match",
    "json_fields.f1",
    "json_fields.*.f1",
    "length",
    "regression.exact_match",
    "regression.length",
    "forgetting",
    "judge.win_rate",
]


@pytest.mark.parametrize(
    ("text", "kind", "metric", "amount", "other", "operator"),
    [
        ("improves: exact_match by 0.05", "improves", "exact_match", 0.05, "base", None),
        ("improves: bleu by 2 over live", "improves", "bleu", 2, "live", None),
        (" improves:chrf  by 1e-1  than base ", "improves", "chrf", 0.1, "base", None),
        ("no worse: regression.*", "no worse", "regression.*", None, "base", None),
        ("no worse: m than live", "no worse", "m", None, "live", None),
        ("no worse: m by 0 than live", "no worse", "m", 0, "live", None),
        ("no_worse: m by 0.02", "no worse", "m", 0.02, "base", None),
        ("schema_compliance >= 0.98", "threshold", "schema_compliance", 0.98, None, ">="),
        ("forgetting<=0.1", "threshold", "forgetting", 0.1, None, "<="),
        ("perplexity < 12", "threshold", "perplexity", 12, None, "<"),
        ("json_fields.first name.f1 > -1", "threshold", "json_fields.first name.f1", -1, None, ">"),
    ],
)
def test_gates_are_read(
    text: str, kind: str, metric: str, amount: float, other: str, operator: str
) -> None:
    gate = parse_gate(text)
    assert gate.text == text
    assert (gate.kind, gate.metric, gate.amount) == (kind, metric, amount)
    assert (gate.other, gate.operator) == (other, operator)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is no gate"),
        ("exact_match", "is no gate"),
        ("exact_match => 0.9", "is no gate"),
        ("exact_match == 0.9", "is no gate"),
        ("improves exact_match by 0.05", "is no gate"),
        (">= 0.9", "is no gate"),
        ("improves:", "names no metric"),
        ("improves: exact_match", "does not say by how much at least"),
        ("improves: exact_match over live", "does not say by how much at least"),
        ("improves: exact_match by 0", "the amount must be above 0"),
        ("improves: exact_match by -0.1", "the amount must be above 0"),
        ("improves: exact_match by 5%", "5 % is written 0.05"),
        ("improves: exact_match by some", "the amount must be a number, and some is none"),
        ("improves: exact_match by nan", "must be a number"),
        ("improves: exact_match by 0.1 over champion", "champion is neither"),
        ("no worse: exact_match by -0.1", "must not be below 0"),
        ("no worse: exact_match by 0.1 then live", "is no metric's name"),
        ("schema_compliance >= 98%", "the limit must be a number, and 98% is none"),
        ("schema_compliance >= inf", "must be a number"),
    ],
)
def test_what_is_no_gate_is_told_with_an_example(text: str, fault: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(fault)) as raised:
        parse_gate(text)
    message = raised.value.message
    assert message.startswith(f"gates: `{text}` ")
    examples = re.findall("`([^`]+)`", message.removeprefix(f"gates: `{text}`"))
    assert examples
    assert all(isinstance(parse_gate(example), Gate) for example in examples)


def test_a_star_covers_many_metrics_and_nothing_else_is_special() -> None:
    gate = parse_gate("no worse: json_fields.*.f1")
    assert gate.covers("json_fields.slots.f1")
    assert not gate.covers("json_fields.f1")
    assert not gate.covers("json_fields.slots.recall")
    assert parse_gate("json_fields.a[0].f1 >= 1").covers("json_fields.a[0].f1")
    assert not parse_gate("json_fields.? >= 1").covers("json_fields.x")


def check(*texts: str) -> None:
    check_gates([parse_gate(text) for text in texts], MEASURED)


def test_gates_on_what_is_measured_are_good() -> None:
    check(
        "improves: exact_match by 0.05",
        "json_fields.slots.f1 >= 0.5",
        "no worse: regression.*",
        "no worse: *",
        "length <= 100",
        "forgetting <= 0.1",
        "judge.win_rate >= 0.5",
        "no worse: judge.win_rate than live",
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("improves: exact_mach by 0.05", "did you mean exact_match?"),
        ("no worse: general.*", "general.* is not measured; evaluation.scorers"),
        ("improves: length by 5", "more is neither better nor worse for length"),
        ("no worse: regression.length", "neither better nor worse"),
        ("no worse: forgetting", "compares with the base already; give it a limit, as `forgetting"),
    ],
)
def test_a_gate_that_nothing_can_decide_is_told_before_the_run(text: str, fault: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(fault)) as raised:
        check(text)
    assert raised.value.message.startswith(f"gates: `{text}`: ")


def test_every_gate_at_fault_is_told() -> None:
    with pytest.raises(RecipeError) as raised:
        check("nothing >= 1", "exact_match >= 0.5", "nothing else >= 1")
    assert len(raised.value.message.splitlines()) == 2


PATTERNS = st.text(alphabet="ab*", max_size=4)


@given(PATTERNS, PATTERNS)
def test_patterns_overlap_where_some_name_fits_both(first: str, second: str) -> None:
    names = ("".join(letters) for n in range(9) for letters in product("ab", repeat=n))
    both = [re.compile(one.replace("*", ".*")) for one in (first, second)]
    expected = any(all(one.fullmatch(name) for one in both) for name in names)
    assert overlap(first, second) is expected
