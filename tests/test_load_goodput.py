"""Objectives, goodput, fairness between tenants, what tokens cost."""

import pytest

from loadtest.statistics.cost import cost
from loadtest.statistics.fairness import Ends, Served, fairness, jain
from loadtest.statistics.figures import Figures
from loadtest.statistics.goodput import Slo, parse_slo
from loadtest.statistics.latencies import latencies
from loadtest.statistics.units import StatisticsError
from tests.load_engines import NO_GAPS, failed, sample


def test_objectives_with_units() -> None:
    assert parse_slo("ttft=500ms, itl=50ms,tpot=40000us ,e2e=5s") == Slo(0.5, 0.05, 0.04, 5.0)
    assert parse_slo("e2e=1.5s") == Slo(e2e_s=1.5)
    assert str(parse_slo("ttft=0.5s,e2e=5s")) == "ttft=500ms,e2e=5000ms"
    assert parse_slo(str(Slo(0.5, 0.05, 0.04, 5.0))) == Slo(0.5, 0.05, 0.04, 5.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttft", "`ttft` is not NAME=TIME, as ttft=500ms"),
        ("", "`` is not NAME=TIME"),
        ("ttft=500ms,", "`` is not NAME=TIME"),
        ("tftt=500ms", r"`tftt` is no objective; did you mean `ttft`\?"),
        ("p95=500ms", "`p95` is no objective; known are ttft, itl, tpot, e2e"),
        ("ttft=500", "--slo ttft: `500` has no unit; write 500ms, 500s or 500us"),
        ("ttft=5min", "does not know the unit `min`"),
        ("ttft=fast", "`fast` is not a number"),
        ("ttft=-1s", "`-1s` is not a number"),
        ("ttft=0ms", "must be more than 0"),
        ("ttft=1s,ttft=2s", "`ttft` is given twice"),
        ("ttft=5%", "does not know the unit `%`"),
    ],
)
def test_objectives_that_cannot_be_understood(text: str, said: str) -> None:
    with pytest.raises(StatisticsError, match=said):
        parse_slo(text)


@pytest.mark.parametrize(
    ("slo", "holds"),
    [
        ("ttft=200.1ms", True),
        ("ttft=199ms", False),
        ("itl=50.1ms", True),
        ("itl=49ms", False),
        ("tpot=50.1ms", True),
        ("tpot=49ms", False),
        ("e2e=711ms", True),
        ("e2e=709ms", False),
        ("ttft=1s,itl=1s,tpot=1s,e2e=709ms", False),
    ],
)
def test_each_objective_judges(slo: str, holds: bool) -> None:
    one = sample()
    assert parse_slo(slo).holds(one, latencies(one)) is holds


def test_a_failure_is_never_good() -> None:
    one = failed()
    assert not parse_slo("itl=1s").holds(one, latencies(one))


def test_an_answer_in_one_piece_shows_its_first_token_at_its_end() -> None:
    whole = sample(first_token_s=None, last_token_s=None, gaps=NO_GAPS, events=0)
    assert not parse_slo("ttft=500ms").holds(whole, latencies(whole))
    assert parse_slo("ttft=800ms,itl=1ms,tpot=1ms").holds(whole, latencies(whole))


def test_goodput_is_a_share_of_all_and_a_rate() -> None:
    figures = Figures(parse_slo("ttft=300ms"))
    for one in (sample(0, 0.0), sample(1, 1.0, first_token_s=1.4), failed(2, 3.99)):
        figures.add(one)
    goodput = figures.summary().all.goodput
    assert goodput is not None
    assert goodput.good == 1
    assert goodput.share == pytest.approx(1 / 3)
    assert goodput.per_s == pytest.approx(1 / 4)
    assert Figures().summary().all.goodput is None


def test_jains_index() -> None:
    assert jain([5.0, 5.0, 5.0]) == pytest.approx(1)
    assert jain([1.0, 0.0, 0.0, 0.0]) == pytest.approx(1 / 4)
    assert jain([1.0, 3.0]) == pytest.approx(16 / 20)
    assert jain([1e-200, 3e-200]) == pytest.approx(16 / 20)
    assert jain([0.0, 0.0]) == 1
    assert jain([7.0]) is None


def test_the_worst_beside_the_best() -> None:
    told = fairness(
        {
            "a": Served(10, 10, 1.0, 300, 0.2),
            "b": Served(10, 5, 0.4, 100, 0.8),
            "idle": Served(0, 0, None, 0, None),
        }
    )
    assert told.tenants == 2
    assert told.jain_tokens == pytest.approx(0.8)
    assert told.jain_good == pytest.approx(1.4**2 / (2 * 1.16))
    assert told.tokens == Ends("b", "a", 100 / 300)
    assert told.answered == Ends("b", "a", 0.5)
    assert told.ttft_p95 == Ends("b", "a", 4.0)


def test_a_tenant_alone_has_no_fairness() -> None:
    told = fairness({"a": Served(10, 10, None, 300, 0.2)})
    assert (told.jain_tokens, told.jain_good, told.tokens, told.ttft_p95) == (None,) * 4


def test_equals_are_fair_even_with_nothing() -> None:
    told = fairness({name: Served(10, 0, None, 0, None) for name in "ab"})
    assert told.tokens is not None
    assert (told.jain_tokens, told.tokens.worst_over_best) == (1, 1)


def test_what_tokens_cost() -> None:
    told = cost(3.6, 1000, output_tokens=500_000, prompt_tokens=1_500_000, ok=2000, good=1000)
    assert told.per_million_output_tokens == pytest.approx(2.0)
    assert told.per_million_tokens == pytest.approx(0.5)
    assert told.per_thousand_requests == pytest.approx(0.5)
    assert told.per_thousand_good_requests == pytest.approx(1.0)


def test_nothing_has_no_price() -> None:
    told = cost(3.6, 1000, output_tokens=0, prompt_tokens=0, ok=0)
    assert told.per_million_tokens is told.per_thousand_requests is None
    assert told.per_thousand_good_requests is None
    with pytest.raises(ValueError, match="neither may be below 0"):
        cost(-1, 1, output_tokens=1, prompt_tokens=1, ok=1)
