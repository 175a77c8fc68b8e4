"""Gates decided: pass, fail and inconclusive, each with its reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluated import alone, figures, metric_of, result_of, shares
from training.evaluation.metrics import Better
from training.evaluation.results import Comparison, Estimate, EvaluationResult, MetricResult
from training.gates import Decision, Outcome, decide, parse_gate
from training.gates.decision import verdict_of
from training.gates.rules import items_needed
from training.gates.scales import items_for_limit
from training.gates.wording import figure

RANK = {"fail": 0, "inconclusive": 1, "pass": 2}


def decided(text: str, result: EvaluationResult | MetricResult) -> tuple[Outcome, str]:
    found = result_of(result) if isinstance(result, MetricResult) else result
    (one,) = decide([parse_gate(text)], found).reasons
    assert one.gate == text
    return one.outcome, one.reason


def test_a_gain_that_was_asked_for_passes() -> None:
    metric = metric_of("exact_match", shares(172, 400), shares(8, 400))
    assert decided("improves: exact_match by 0.05", metric) == (
        "pass",
        "exact_match rose by 0.41 (0.359 to 0.456) over base, from 0.02 to 0.43, on 400 items; "
        "at least 0.05 was asked for",
    )


def test_a_gain_that_is_shown_but_too_small_fails() -> None:
    assert decided("improves: f by 0.05", figures("f", 400, (0.03, 0.01, 0.045))) == (
        "fail",
        "f does not improve enough: it rose by 0.03 (0.01 to 0.045) over base, from 0.50 to 0.53, "
        "on 400 items; at least 0.05 was asked for",
    )


def test_shuffled_labels_do_not_improve() -> None:
    random = np.random.default_rng(0)
    metric = metric_of("exact_match", random.random(400) < 0.05, random.random(400) < 0.04)
    outcome, reason = decided("improves: exact_match by 0.05", metric)
    assert outcome == "fail"
    assert reason == (
        "exact_match does not improve: it rose by 0.01 (-0.018 to 0.038) over base, from 0.035 to "
        "0.045, on 400 items; at least 0.05 was asked for"
    )
    worse = metric_of("exact_match", shares(18, 400), shares(340, 400))
    outcome, reason = decided("improves: exact_match by 0.05", worse)
    assert outcome == "fail"
    assert reason.startswith("exact_match does not improve: it fell by 0.805 (0.76")
    outcome, reason = decided("no worse: exact_match", worse)
    assert outcome == "fail"
    assert reason.startswith("exact_match is worse than base's: it fell by 0.805 (0.76")
    assert reason.endswith("up to 0.05 worse is tolerated")


def test_too_few_items_for_a_gain_are_told_with_how_many_would_do() -> None:
    metric = figures("f", 40, (0.04, -0.02, 0.10), detectable=0.12)
    assert decided("improves: f by 0.05", metric) == (
        "inconclusive",
        "f rose by 0.04 (-0.02 to 0.10) over base, from 0.50 to 0.54, on 40 items, too few to tell "
        "a gain of 0.05 from chance; about 240 would do",
    )
    large_but_unsure = figures("f", 40, (0.06, -0.02, 0.14), detectable=0.12)
    assert decided("improves: f by 0.05", large_but_unsure)[0] == "inconclusive"


def test_a_set_that_could_have_shown_the_gain_fails_what_has_none() -> None:
    metric = figures("f", 400, (0.02, -0.015, 0.055), detectable=0.05)
    assert decided("improves: f by 0.05", metric)[0] == "fail"
    certain = figures("f", 400, (0.0, -0.03, 0.03), detectable=None)
    assert decided("improves: f by 0.05", certain)[0] == "fail"


def test_exactly_what_was_asked_for_is_enough() -> None:
    metric = figures("f", 400, (0.05, 0.01, 0.09))
    assert decided("improves: f by 0.05", metric)[0] == "pass"


@pytest.mark.parametrize(
    ("difference", "detectable", "outcome", "ends"),
    [
        ((0.02, -0.01, 0.05), 0.02, "pass", "on 400 items"),
        ((0.01, -0.09, 0.11), 0.14, "pass", "less than 0.14 worse may not have shown"),
        # Beyond chance, and within the margin for certain.
        ((-0.03, -0.045, -0.015), 0.02, "pass", "up to 0.05 worse is tolerated"),
        ((-0.03, -0.06, 0.0), 0.05, "pass", "up to 0.05 worse is tolerated"),
        ((-0.04, -0.06, -0.02), 0.03, "inconclusive", "about 440 would do"),
        ((-0.02, -0.1, 0.06), 0.1, "inconclusive", "about 1,600 would do"),
        ((-0.07, -0.16, 0.02), 0.15, "inconclusive", "about 3,600 would do"),
        ((-0.06, -0.125, 0.005), 0.05, "fail", "up to 0.05 worse is tolerated"),
        ((-0.07, -0.13, -0.01), 0.1, "fail", "up to 0.05 worse is tolerated"),
    ],
)
def test_no_worse(
    difference: tuple[float, float, float], detectable: float, outcome: str, ends: str
) -> None:
    found, reason = decided("no worse: f", figures("f", 400, difference, detectable=detectable))
    assert found == outcome
    assert reason.endswith(ends)


def test_lower_is_better_where_it_is() -> None:
    better = figures("perplexity", 400, (-3, -4, -2), better="lower", base=15)
    worse = figures("perplexity", 400, (3, 2, 4), better="lower", base=15)
    outcome, reason = decided("improves: perplexity by 1", better)
    assert (outcome, reason.split(",")[0]) == (
        "pass",
        "perplexity fell by 3.00 (2.00 to 4.00) from base",
    )
    outcome, reason = decided("improves: perplexity by 1", worse)
    assert outcome == "fail"
    assert reason.startswith("perplexity does not improve: it rose by 3.00")
    unsure = figures("perplexity", 400, (-1, -2.5, 0.5), better="lower", base=15)
    assert decided("improves: perplexity by 1", unsure)[0] == "inconclusive"
    assert decided("no worse: perplexity", better)[0] == "pass"
    outcome, reason = decided("no worse: perplexity", worse)
    assert outcome == "fail"
    # 5 % of the base's.
    assert reason.endswith("up to 0.75 worse is tolerated")


def test_a_margin_of_the_gate_goes_before_the_default() -> None:
    metric = figures("f", 400, (-0.06, -0.075, -0.045), detectable=0.02)
    assert decided("no worse: f", metric)[0] == "fail"
    assert decided("no worse: f by 0.08", metric)[0] == "pass"
    assert decided("no worse: f by 0", metric)[0] == "fail"


@pytest.mark.parametrize(
    ("name", "better", "base", "margin"),
    [
        ("regression.exact_match", "higher", 0.5, "0.05"),
        ("regression.bleu", "higher", 30, "2.00"),
        ("perplexity", "lower", 20, "1.00"),
        ("general.loss", "lower", 2, "0.05"),
    ],
)
def test_margins_fit_the_kind_of_metric(
    name: str, better: Better, base: float, margin: str
) -> None:
    sign = 1 if better == "lower" else -1
    low, high = sorted((sign * 3.0, sign * 5.0))
    metric = figures(name, 400, (sign * 4.0, low, high), better=better, base=base)
    outcome, reason = decided(f"no worse: {name}", metric)
    assert outcome == "fail"
    assert reason.endswith(f"up to {margin} worse is tolerated")


@pytest.mark.parametrize(
    ("text", "metric", "expected"),
    [
        (
            "schema_compliance >= 0.98",
            alone("schema_compliance", 400, 0.99, 0.975, 0.996),
            ("pass", "schema_compliance is 0.99 (0.975 to 0.996) on 400 items; at least 0.98 was "
             "asked for"),
        ),
        (
            "schema_compliance >= 0.98",
            alone("schema_compliance", 400, 0.9799, 0.96, 0.99),
            ("fail", "schema_compliance is 0.9799 (0.96 to 0.99) on 400 items; at least 0.98 was "
             "asked for"),
        ),
        (
            "schema_compliance >= 0.98",
            alone("schema_compliance", 49, 1.0, 0.927, 1.0),
            ("inconclusive", "schema_compliance is 1.00 (0.927 to 1.00) on 49 items, too few to "
             "decide on a limit of 0.98; 50 would do"),
        ),
        (
            "schema_compliance >= 0.98",
            alone("schema_compliance", 20, 0.5, 0.3, 0.7),
            ("fail", "schema_compliance is 0.50 (0.30 to 0.70) on 20 items; at least 0.98 was "
             "asked for"),
        ),
        (
            "forgetting <= 0.1",
            alone("forgetting", 20, 0.31, 0.28, 0.34),
            ("fail", "forgetting is 0.31 (0.28 to 0.34) on 20 items; at most 0.10 was asked for"),
        ),
        (
            "json_valid >= 1",
            alone("json_valid", 30, 1.0, 0.88, 1.0),
            ("pass", "json_valid is 1.00 (0.88 to 1.00) on 30 items; at least 1.00 was asked for"),
        ),
        (
            "f > 0.5",
            alone("f", 30, 0.5, 0.3, 0.7),
            ("fail", "f is 0.50 (0.30 to 0.70) on 30 items; more than 0.50 was asked for"),
        ),
        (
            "f >= 0.5",
            alone("f", 1, 1.0, 0.2, 1.0),
            ("inconclusive", "f is 1.00 (0.20 to 1.00) on 1 item; fewer than 10 decide nothing"),
        ),
    ],
)  # fmt: skip
def test_limits(text: str, metric: MetricResult, expected: tuple[Outcome, str]) -> None:
    assert decided(text, metric) == expected


def test_every_metric_that_a_star_covers_is_decided() -> None:
    metrics = [
        figures("regression.exact_match", 400, (0.1, 0.05, 0.15)),
        figures("regression.token_f1", 400, (-0.2, -0.25, -0.15)),
        figures("regression.length", 400, (-9, -12, -6), better="neither"),
        figures("exact_match", 400, (-0.2, -0.25, -0.15)),
    ]
    found = decide([parse_gate("no worse: regression.*")], result_of(*metrics))
    assert [one.outcome for one in found.reasons] == ["pass", "fail"]
    assert [one.reason.split()[0] for one in found.reasons] == [
        "regression.exact_match",
        "regression.token_f1",
    ]
    assert found.verdict == "rejected"


def test_equal_models_read_as_equal() -> None:
    metric = metric_of("f", shares(20, 50), shares(20, 50))
    assert decided("no worse: f", metric) == (
        "pass",
        "f is no worse than base's: it is the same as base's (-0.053 to 0.053), both 0.40, on 50 "
        "items; less than 0.188 worse may not have shown",
    )
    assert decided("improves: f by 0.2", metric) == (
        "fail",
        "f does not improve: it is the same as base's (-0.053 to 0.053), both 0.40, on 50 items; "
        "at least 0.20 was asked for",
    )


def test_values_are_told_only_where_the_difference_is_theirs() -> None:
    metric = figures("judge.win_rate", 50, (0.3, 0.1, 0.5))
    judged = metric.model_copy(
        update={"of": {**metric.of, "candidate": Estimate(value=0.6, low=0.5, high=0.7)}}
    )
    assert decided("improves: judge.win_rate by 0.05", judged)[1] == (
        "judge.win_rate rose by 0.30 (0.10 to 0.50) over base on 50 items; at least 0.05 was "
        "asked for"
    )


def test_nothing_is_worse_than_nothing() -> None:
    metric = figures("f", 400, (0.1, 0.05, 0.15))
    nothing = ("pass", "nothing is live yet, so there is nothing to compare with")
    assert decided("no worse: f than live", metric) == nothing
    assert decided("improves: f by 0.5 over live", metric) == nothing
    assert decided("no worse: f than live", result_of(metric, live=True)) == (
        "inconclusive",
        "f could not be measured against live: the evaluation has no figure for it",
    )


def test_what_was_not_measured_is_told_with_the_note() -> None:
    notes = ("perplexity: the endpoint gives no log-probabilities", "something else")
    for result in (
        result_of(notes=notes),
        result_of(
            MetricResult(
                name="perplexity",
                better="lower",
                items=400,
                of={"candidate": Estimate(value=None, low=None, high=None)},
            ),
            notes=notes,
        ),
    ):
        assert decided("perplexity <= 12", result) == (
            "inconclusive",
            "perplexity could not be measured: perplexity: the endpoint gives no log-probabilities",
        )


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        (["pass", "pass"], "passed"),
        (["pass", "inconclusive"], "inconclusive"),
        (["inconclusive", "fail", "pass"], "rejected"),
        (["fail"], "rejected"),
        ([], "inconclusive"),
    ],
)
def test_the_verdict_is_that_of_the_worst_gate(outcomes: list[Outcome], verdict: str) -> None:
    assert verdict_of(outcomes) == verdict


@given(st.lists(st.sampled_from(["pass", "inconclusive", "fail"]), min_size=1, max_size=6))
def test_the_order_of_gates_does_not_count_and_none_lifts_a_verdict(
    outcomes: list[Outcome],
) -> None:
    rank = {"rejected": 0, "inconclusive": 1, "passed": 2}
    assert verdict_of(outcomes) == verdict_of(outcomes[::-1])
    assert rank[verdict_of(outcomes)] == min(RANK[one] for one in outcomes)


GATES = (
    "improves: f by 0.05",
    "improves: f by 0.2",
    "no worse: f",
    "no worse: f by 0",
    "f >= 0.5",
    "f > 0.95",
)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=8, max_size=60),
    st.sampled_from(GATES),
    st.booleans(),
    st.data(),
)
@settings(max_examples=50, deadline=None)
def test_a_better_candidate_never_falls_from_pass_to_fail(
    pairs: list[tuple[bool, bool]], text: str, binary: bool, data: st.DataObject
) -> None:
    candidate, base = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    at = data.draw(st.integers(0, len(pairs) - 1))
    better = [max(value, float(i == at)) for i, value in enumerate(candidate)]
    before, after = (
        decided(text, metric_of("f", values, base, binary=binary))[0]
        for values in (candidate, better)
    )
    assert not (before == "pass" and after == "fail")


SPREAD = st.floats(0, 0.3)


@given(st.floats(-0.5, 0.5), SPREAD, SPREAD, SPREAD, st.floats(0, 0.5), st.sampled_from(GATES[:4]))
def test_a_gain_moved_up_never_comes_out_worse(
    difference: float, down: float, up: float, detectable: float, more: float, text: str
) -> None:
    outcomes = []
    for moved in (difference, difference + more):
        metric = figures(
            "f", 100, (moved, moved - down, moved + up), detectable=detectable, base=0.5
        )
        outcomes.append(decided(text, metric)[0])
    assert RANK[outcomes[1]] >= RANK[outcomes[0]]


def test_the_same_report_gives_the_same_decision() -> None:
    result = result_of(metric_of("f", shares(30, 50), shares(20, 50)))
    gates = [parse_gate(text) for text in GATES]
    again = EvaluationResult.model_validate_json(result.model_dump_json())
    found = decide(gates, result)
    assert isinstance(found, Decision)
    assert decide(gates, again) == found


@pytest.mark.parametrize(
    ("metric", "limit", "at_least", "items"),
    [
        ("exact_match", 0.98, True, 50),
        ("regression.exact_match", 0.95, True, 20),
        ("exact_match", 0.5, True, 10),
        ("exact_match", 1, True, 10),
        ("repetition", 0.02, False, 50),
        ("repetition", 0.98, False, 10),
        ("bleu", 98, True, 50),
        ("bleu", 30, True, 10),
        ("general.loss", 0.02, False, 10),
        ("forgetting", 0.02, False, 10),
    ],
)
def test_items_for_a_limit(metric: str, limit: float, at_least: bool, items: int) -> None:
    assert items_for_limit(metric, limit, at_least=at_least) == items


@pytest.mark.parametrize(
    ("items", "detectable", "amount", "needed"),
    [(40, 0.12, 0.05, 240), (400, 0.06, 0.03, 1600), (100, None, 0.1, None), (100, 0.2, 0.0, None)],
)
def test_items_needed(
    items: int, detectable: float | None, amount: float, needed: int | None
) -> None:
    assert items_needed(items, detectable, amount) == needed


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4125, "0.412"), (0.5, "0.50"), (0, "0.00"), (-0.0001, "0.00"), (34.5678, "34.57"),
     (1234.56, "1,234.6"), (-0.25, "-0.25"), (1.0, "1.00")],
)  # fmt: skip
def test_figures_as_people_read_them(value: float, text: str) -> None:
    assert figure(value) == text


def test_a_figure_just_beside_a_limit_shows_it() -> None:
    assert figure(0.97996, 0.98) == "0.97996"
    assert figure(0.98, 0.98) == "0.98"


def test_an_interval_that_is_not_known_decides_no_comparison() -> None:
    unknown = Comparison(difference=0.2, low=None, high=None, p_value=None, detectable=None)
    metric = figures("f", 400, (0.2, 0.1, 0.3)).model_copy(update={"against": {"base": unknown}})
    assert decided("improves: f by 0.1", metric)[0] == "inconclusive"
