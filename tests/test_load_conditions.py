"""What `--fail-if` understands, and how a run is judged by it."""

import pytest

from loadtest.statistics.conditions import FACTS, facts, judge, parse_condition
from loadtest.statistics.figures import Figures
from loadtest.statistics.goodput import parse_slo
from loadtest.statistics.units import StatisticsError
from tests.load_engines import failed, sample


@pytest.mark.parametrize(
    ("text", "fact", "sign", "bound"),
    [
        ("ttft_p95 > 400ms", "ttft_p95", ">", 0.4),
        ("itl_mean>=50000us", "itl_mean", ">=", 0.05),
        (" e2e_max > 1.5 s ", "e2e_max", ">", 1.5),
        ("errors > 1%", "errors", ">", 0.01),
        ("errors > 0", "errors", ">", 0.0),
        ("goodput < 0.99", "goodput", "<", 0.99),
        ("goodput < 99 %", "goodput", "<", 0.99),
        ("output_tokens_per_s < 1000", "output_tokens_per_s", "<", 1000),
        ("requests_per_s <= 1e3", "requests_per_s", "<=", 1000),
        ("cold_starts != 0", "cold_starts", "!=", 0),
        ("tester_bound", "tester_bound", None, None),
    ],
)
def test_conditions(text: str, fact: str, sign: str | None, bound: float | None) -> None:
    parsed = parse_condition(text)
    assert (parsed.fact, parsed.sign) == (fact, sign)
    assert parsed.bound == (None if bound is None else pytest.approx(bound))
    assert parsed.text == text.strip()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttft_95 > 400ms", r"`ttft_95` is no figure; did you mean `ttft_p95`\?"),
        ("error > 1%", r"did you mean `errors`\?"),
        ("speed > 1", "`speed` is no figure; known are ttft|itl"),
        ("ttft_p95", "`ttft_p95` needs a bound, as `ttft_p95 > 400ms`"),
        ("goodput", "`goodput` needs a bound, as `goodput > 1%`"),
        ("ttft_p95 > 400", "`400` has no unit; write 400ms, 400s or 400us"),
        ("ttft_p95 > 400m", "does not know the unit `m`"),
        ("ttft_p95 >", "not FIGURE > VALUE"),
        ("ttft_p95 > ", "`` is not a number"),
        ("ttft_p95 => 1s", "not FIGURE > VALUE"),
        ("errors > 1ms", "is a share; write it as 0.01 or 1%"),
        ("errors > 5", "5 is more than all"),
        ("requests_per_s < 10%", "takes a number without a unit"),
        ("tester_bound > 0", "is true or not; write it alone"),
        ("", "not FIGURE > VALUE"),
        ("ttft_p95 > 1s, errors > 0", "is not a number"),
    ],
)
def test_conditions_that_cannot_be_understood(text: str, said: str) -> None:
    with pytest.raises(StatisticsError, match=said):
        parse_condition(text)


def run_facts() -> dict[str, float | bool | None]:
    figures = Figures(parse_slo("ttft=300ms"))
    for one in (sample(0, 0.0), sample(1, 1.0, first_token_s=1.5), failed(2, 4.0)):
        figures.add(one)
    return facts(figures.summary(), tester_bound=True)


@pytest.mark.parametrize(
    ("text", "fails", "reason"),
    [
        ("ttft_max > 400ms", True, "ttft_max > 400ms: ttft_max is 500 ms"),
        ("ttft_max > 500ms", False, "ttft_max is 500 ms"),
        ("ttft_max >= 500ms", True, "ttft_max is 500 ms"),
        ("errors > 30%", True, "errors is 33.33%"),
        ("errors > 40%", False, "errors is 33.33%"),
        ("goodput < 0.5", True, "goodput is 33.33%"),
        ("requests_per_s < 0.5", True, "requests_per_s is 0.498753"),
        ("cold_starts == 0", True, "cold_starts is 0"),
        ("tester_bound", True, "tester_bound is true"),
        ("timeouts > 0", False, "timeouts is 0.00%"),
    ],
)
def test_a_run_is_judged(text: str, fails: bool, reason: str) -> None:
    verdict = judge(parse_condition(text), run_facts())
    assert verdict.failed is fails
    assert reason in verdict.reason


def test_what_was_not_measured_fails() -> None:
    verdict = judge(parse_condition("queue_p95 > 1s"), run_facts())
    assert verdict.failed
    assert verdict.reason == "queue_p95 > 1s: queue_p95 was not measured in this run"


def test_every_fact_can_be_named_and_is_told() -> None:
    known = run_facts()
    assert known.keys() == FACTS.keys()
    bounds = {"time": " > 1s", "share": " > 1%", "number": " > 1", "flag": ""}
    for fact, kind in FACTS.items():
        assert judge(parse_condition(fact + bounds[kind]), known).condition.fact == fact
