"""The testers' benchmark: the loads, the readers of the peers' files, what holds, the claims."""

import json
from typing import Any

import pytest

from benchmarks.testing import ours
from benchmarks.testing.figures import (
    GUIDELLM,
    OURS,
    VLLM,
    Told,
    from_guidellm,
    from_ours,
    from_vllm,
)
from benchmarks.testing.loads import Load, Pace, next_rate
from benchmarks.testing.report import markdown
from benchmarks.testing.results import Agreed, Flooded, Results, Tried, claims, wrong
from loadtest.running.state import RunOutcome
from loadtest.running.tester import OwnFigures, judge
from loadtest.statistics.measured import Measured
from loadtest.workload.schedule import schedule

FIGURES = {
    "TTFT mean": 0.11, "TTFT p50": 0.11, "TTFT p99": 0.12, "ITL mean": 0.02, "ITL p50": 0.02,
    "ITL p99": 0.03, "TPOT mean": 0.02, "E2E mean": 1.4, "requests/s": 20.0,
    "output tokens/s": 1280.0,
}  # fmt: skip
LATENCY_S = 2.66


def told(**changed: float) -> Told:
    names = {name.replace("_", " "): value for name, value in changed.items()}
    return Told(100, FIGURES | names)


def made(**more: Any) -> Results:
    return Results("command", "2026-11-22", {"cores": "2"}, {}, [VLLM, GUIDELLM], **more)


def tried(side: str, rate: float, *reasons: str, round_number: int = 0) -> Tried:
    return Tried(round_number, side, Load(100, 128, rate), told(), {"p50": reasons, "p99": reasons})


def searched(holds: float, first: float = 100.0) -> tuple[float | None, int]:
    """The best rate found where all up to `holds` hold, and how many were tried."""
    rates: list[tuple[float, bool]] = []
    while (rate := next_rate(first, rates)) is not None:
        rates.append((rate, rate <= holds))
    return max((rate for rate, good in rates if good), default=None), len(rates)


@pytest.mark.parametrize("holds", [30.0, 99.0, 100.0, 137.0, 730.0])
def test_the_search_comes_within_8_percent_below(holds: float) -> None:
    best, count = searched(holds)
    assert best is not None
    assert best <= holds <= best * 1.08
    assert count <= 14


def test_a_side_that_holds_nothing_is_given_up() -> None:
    assert searched(0.0) == (None, 4)


def test_the_load_is_that_of_our_own_schedule() -> None:
    steady = [*schedule(ours.workload(Load(5, 64, rate=20.0), "base"))]
    assert len(steady) == 5
    assert steady[1].at_s == pytest.approx((steady[0].at_s or 0.0) + 0.05)
    assert all(one.stream and one.max_tokens == 64 for one in steady)
    assert steady[0].body["ignore_eos"] is True
    assert Load(5, 64, rate=20.0).offered == 1280.0
    closed = [*schedule(ours.workload(Load(3, 64, users=2), "base"))]
    assert [one.at_s for one in closed] == [None] * 3
    assert Load(3, 64, users=2).offered == 0.0


def test_the_engine_is_told_its_pace() -> None:
    behaviour = Pace(0.1, 0.02, 4).as_behaviour()
    assert behaviour == {"first_token_time_s": 0.1, "token_time_s": 0.02, "tokens_at_once": 4}


def test_the_peers_files_are_read_in_seconds() -> None:
    vllm = from_vllm(
        {
            "completed": 7, "request_throughput": 2.0, "output_throughput": 128.0,
            "mean_ttft_ms": 110.0, "median_ttft_ms": 109.0, "p99_ttft_ms": 130.0,
            "mean_itl_ms": 20.0, "mean_e2el_ms": 1400.0,
        }
    )  # fmt: skip
    assert vllm.ok == 7
    assert vllm.figures["TTFT p50"] == pytest.approx(0.109)
    assert vllm.figures["E2E mean"] == pytest.approx(1.4)
    spread = {"mean": 20.0, "median": 19.0, "percentiles": {"p99": 30.0}, "count": 7}
    names = [
        "requests_per_second", "output_tokens_per_second", "time_to_first_token_ms",
        "inter_token_latency_ms", "time_per_output_token_ms", "request_latency",
    ]  # fmt: skip
    metrics = {name: {"successful": spread} for name in names}
    guidellm = from_guidellm({"benchmarks": [{"metrics": metrics}]})
    assert guidellm.ok == 7
    assert guidellm.figures["TTFT p99"] == pytest.approx(0.03)
    assert guidellm.figures["E2E mean"] == 20.0
    assert guidellm.figures["requests/s"] == 20.0


def test_ours_tells_its_figures_the_peers_way_too() -> None:
    verdict = judge(OwnFigures())
    outcome = RunOutcome("completed", None, 1.0, 0, 0, verdict, 1)
    saved = json.loads(json.dumps(ours.told(Measured(), outcome)))
    read = from_ours(saved)
    assert read.ok == 0
    assert read.bound == ()
    assert set(read.as_peer) == {VLLM, GUIDELLM}


def test_what_keeps_a_rate_from_counting() -> None:
    load = Load(100, 128, 20.0)
    held = told(**{"requests/s": 100 / (5 + LATENCY_S)})
    assert wrong(held, load, FIGURES, LATENCY_S) == {"p50": (), "p99": ()}
    late = told(TTFT_p50=0.125, ITL_mean=0.022, **{"requests/s": 10.0})
    for reasons in map("; ".join, wrong(late, load, FIGURES, LATENCY_S).values()):
        assert "10 requests/s of 13" in reasons
        assert "its TTFT p50 is 15 ms too long" in reasons
        assert "+10%" in reasons
    engines = wrong(told(TTFT_p50=0.125), load, FIGURES, LATENCY_S, 0.006)
    assert "too long" not in "; ".join(engines["p99"])
    few = Told(90, held.figures, bound=("busy",))
    assert wrong(few, load, FIGURES, LATENCY_S)["p50"] == ("busy", "10 requests failed")


def test_a_long_tail_counts_by_the_stricter_standard_alone() -> None:
    load = Load(100, 128, 20.0)
    tail = told(TTFT_p99=0.2, **{"requests/s": 20.0})
    assert wrong(tail, load, FIGURES, LATENCY_S) == {
        "p50": (),
        "p99": ("its TTFT p99 is 80 ms too long",),
    }
    results = made(engine_tokens_per_s=[200_000.0], tried=[tried(OURS, 800.0), tried(VLLM, 250.0)])
    results.tried.append(
        Tried(0, VLLM, Load(100, 128, 300.0), tail, {"p50": (), "p99": ("its tail",)})
    )
    assert results.sustained(VLLM, "p99") == [32_000.0]
    assert results.sustained(VLLM, "p50") == [38_400.0]
    assert results.rates(0, VLLM, "p99") == [(250.0, True), (300.0, False)]
    *_, strict, lax = claims(results)
    assert "3.20 times" in strict.measured
    assert strict.held
    assert "2.67 times" in lax.measured
    assert lax.held is False


def test_a_peer_that_cannot_be_the_best_is_searched_no_further() -> None:
    results = made(tried=[tried(VLLM, 250.0)])
    assert results.far_from_best(GUIDELLM, "p50", [(100.0, True), (120.0, False)])
    assert not results.far_from_best(GUIDELLM, "p50", [(100.0, True), (130.0, False)])
    assert not results.far_from_best(GUIDELLM, "p50", [(100.0, True)])
    assert not results.far_from_best(OURS, "p50", [(10.0, False)])


def test_figures_are_paired_within_a_round_and_by_the_peers_definition() -> None:
    mine = Told(100, FIGURES, {VLLM: FIGURES | {"ITL mean": 0.0199}})
    runs = [Agreed(0, OURS, mine), Agreed(0, VLLM, told(ITL_mean=0.0198))]
    runs += [Agreed(1, OURS, mine), Agreed(2, VLLM, told())]
    results = made(agreed=runs)
    assert results.pairs(VLLM, "ITL mean") == [(0.02, 0.0199, 0.0198)]
    assert results.ratio(VLLM, "ITL mean") == pytest.approx(0.0199 / 0.0198)
    vllm, guidellm, *_ = claims(results)
    assert vllm.held
    assert guidellm.held is None
    results.agreed[1] = Agreed(0, VLLM, told(TTFT_mean=0.1))
    far = claims(results)[0]
    assert far.held is False
    assert "TTFT mean, +10.00%" in far.measured


def test_the_speed_is_against_the_best_peer_and_needs_an_engine_with_room() -> None:
    results = made(engine_tokens_per_s=[60_000.0, 58_000.0])
    results.tried += [tried(OURS, 800.0), tried(OURS, 900.0, "busy"), tried(VLLM, 250.0)]
    results.tried += [tried(VLLM, 300.0, "late"), tried(GUIDELLM, 50.0)]
    _, _, room, faster, _ = claims(results)
    assert room.held
    assert "1.81 times vllm bench serve's 32,000 and 0.57 times ours" in room.measured
    assert faster.held
    assert "102,400 and 32,000" in faster.measured
    results.tried.append(tried(VLLM, 310.0))
    _, _, room, faster, _ = claims(results)
    assert room.held is False
    assert faster.held is False
    assert [claim.held for claim in claims(made())] == [None] * 5


def test_the_page_says_what_was_measured_and_that_it_is_partial() -> None:
    mine = Told(100, FIGURES, {VLLM: FIGURES}, cpu_share=0.5)
    results = made(notes=["a note"], flooded=[Flooded(VLLM, 32, told())])
    results.agreed += [Agreed(0, OURS, mine), Agreed(0, VLLM, told())]
    results.tried += [tried(OURS, 800.0), tried(VLLM, 300.0, "late")]
    page = markdown(results)
    assert "Partial" in page
    assert "| TTFT mean | 110.00 ms | 110.00 ms | 110.00 ms | 1.0000 |" in page
    assert "| p99 | vllm bench serve | none |  | 38,400: late |" in page
    assert "- a note" in page
    results.partial = False
    assert "Partial" not in markdown(results)
    assert json.loads(json.dumps(results.as_json()))["claims"][0]["held"]
