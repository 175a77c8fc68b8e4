"""Two runs side by side: pairs, intervals that hold, what is said where there is too little."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.samples import Sample
from loadtest.statistics.bootstrap import correlated, draws_of
from loadtest.statistics.compare import Comparison, Difference, Run, compare
from loadtest.statistics.rows import Rows
from loadtest.statistics.units import StatisticsError
from tests.load_engines import failed, sample

FEW = 200
"""Resamples, for speed."""


def run_of(samples: list[Sample], name: str = "run", digest: str | None = "d1") -> Run:
    rows = Rows()
    for one in samples:
        rows.add(one)
    return Run(name, rows.table(), rows.seen, digest)


def answers(
    seed: int, count: int = 400, *, scale: float = 1.0, drift: float = 0.0, per_s: float = 10.0
) -> list[Sample]:
    """Answers whose TTFT depends on the request alone (0.05 to 1 s, the same in each run of the
    schedule), times `scale`, and on chance, which changes slowly by `drift`."""
    asked = np.random.default_rng(99).uniform(0.05, 1.0, count)
    rng = np.random.default_rng(seed)
    slow = np.convolve(rng.normal(0, 1, count + 19), np.ones(20) / np.sqrt(20), "valid")
    ttft = np.abs(asked * scale * rng.normal(1, 0.05, count) * (1 + drift * slow)) + 0.001
    return [
        sample(
            index,
            at_s := index / per_s,
            first_token_s=at_s + wait_s,
            last_token_s=at_s + wait_s + 0.5,
            ended_s=at_s + wait_s + 0.5,
        )
        for index, wait_s in enumerate(ttft.tolist())
    ]


def found(comparison: Comparison, figure: str) -> Difference:
    return next(one for one in comparison.differences if one.figure == figure)


def test_runs_of_one_schedule_are_paired() -> None:
    told = compare(run_of(answers(1), "A"), run_of(answers(2), "B"), resamples=FEW)
    assert (told.a, told.b, told.paired) == ("A", "B", True)
    assert told.why == "paired: 400 requests of the same schedule are in both runs"
    assert [one.figure for one in told.differences] == [
        *(
            f"{of}_{n}"
            for of in ("ttft", "itl", "tpot", "e2e")
            for n in ("mean", "p50", "p95", "p99")
        ),
        "errors",
        "requests_per_s",
        "output_tokens_per_s",
    ]


@pytest.mark.parametrize(
    ("digest", "why"),
    [
        ("d2", "not paired: the runs had different schedules"),
        (None, "not paired: a run does not tell its schedule's digest"),
    ],
)
def test_runs_of_different_schedules_are_not_paired(digest: str | None, why: str) -> None:
    told = compare(run_of(answers(1)), run_of(answers(2), digest=digest), resamples=FEW)
    assert (told.paired, told.why) == (False, why)


def test_runs_that_share_few_requests_are_not_paired() -> None:
    later = run_of([replace(one, index=one.index + 390) for one in answers(2)])
    told = compare(run_of(answers(1)), later, resamples=FEW)
    assert (told.paired, told.why) == (False, "not paired: only 10 requests are in both runs")


def test_pairs_show_what_unpaired_runs_hide() -> None:
    """Three percent slower: requests differ twentyfold, but each is its own measure."""
    a, b = answers(1), answers(2, scale=1.03)
    paired = found(compare(run_of(a), run_of(b), resamples=FEW), "ttft_mean")
    apart = found(compare(run_of(a), run_of(b, digest="d2"), resamples=FEW), "ttft_mean")
    assert paired.direction == "worse"
    assert apart.direction == "unclear"
    assert paired.change == apart.change == pytest.approx(0.03, abs=0.01)
    assert paired.change_low is not None
    assert paired.change_high is not None
    assert paired.change_low < 0.03 < paired.change_high
    assert paired.change_high - paired.change_low < 0.02


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_hold_as_often_as_they_say(paired: bool) -> None:
    """Runs of one engine whose chance changes slowly: the interval of 95 % holds 0 in about nine of
    ten. Were requests taken for independent, it would in four of ten."""
    held = 0
    for seed in range(60):
        a = run_of(answers(2 * seed + 10, 600, drift=0.2))
        b = run_of(answers(2 * seed + 11, 600, drift=0.2), digest="d1" if paired else "d2")
        one = found(compare(a, b, resamples=FEW), "ttft_mean")
        assert one.low is not None
        assert one.high is not None
        held += one.low <= 0 <= one.high
    assert held >= 51


def neighbours(together: int) -> NDArray[np.float64]:
    """Sums of so many neighbours, each a step on: so many hang together."""
    noise = np.random.default_rng(3).normal(0, 1, 20_000 + together - 1)
    return np.convolve(noise, np.ones(together), "valid").astype(np.float64)


@pytest.mark.parametrize("together", [1, 5, 20])
def test_how_long_requests_hang_together_is_found(together: int) -> None:
    assert correlated(neighbours(together)) == pytest.approx(together, rel=0.25)


def test_blocks_are_longer_than_requests_hang_together() -> None:
    assert draws_of(neighbours(1), 10, [0]).shape == (10, 100)
    assert draws_of(neighbours(200), 10, [0]).shape[1] < 80


def test_a_series_that_never_changes_has_no_chance_in_it() -> None:
    assert correlated(np.full(50, 0.2)) == 1


def test_the_same_seed_gives_the_same_intervals() -> None:
    a, b = run_of(answers(1)), run_of(answers(2))
    assert compare(a, b, seed=5, resamples=FEW) == compare(a, b, seed=5, resamples=FEW)
    assert compare(a, b, seed=5, resamples=FEW) != compare(a, b, seed=6, resamples=FEW)


def test_figures_are_those_of_the_runs() -> None:
    a, b = answers(1), answers(2, scale=0.5)
    told = compare(run_of(a), run_of(b), resamples=FEW)
    for name, percent in (("p50", 50), ("p95", 95)):
        want = [
            np.percentile([one.first_token_s - one.intended_s for one in run], percent)  # type: ignore[operator]
            for run in (a, b)
        ]
        one = found(told, f"ttft_{name}")
        assert [one.a, one.b] == pytest.approx(want, rel=0.01)
        assert one.direction == "better"


def test_pairs_need_both_answers() -> None:
    b = [failed(one.index, one.intended_s) if one.index % 2 else one for one in answers(2)]
    told = compare(run_of(answers(1)), run_of(b), resamples=FEW)
    assert found(told, "ttft_mean").requests == (200, 200)
    errors = found(told, "errors")
    assert (errors.a, errors.b, errors.direction) == (0.0, 0.5, "worse")
    assert (errors.change, errors.change_low) == (None, None)


def test_no_errors_on_either_side_are_the_same() -> None:
    told = compare(run_of(answers(1)), run_of(answers(2)), resamples=FEW)
    assert found(told, "errors").direction == "same"


def test_throughput_is_compared_by_time_and_more_is_better() -> None:
    told = compare(run_of(answers(1)), run_of(answers(2, per_s=12.0)), resamples=FEW)
    rate, tokens = found(told, "requests_per_s"), found(told, "output_tokens_per_s")
    assert rate.change == pytest.approx(0.2, abs=0.02)
    assert rate.direction == tokens.direction == "better"
    assert tokens.b == pytest.approx(11 * rate.b)


def test_rows_that_are_a_sample_stand_for_all() -> None:
    rows = Rows(100)
    for one in answers(1, 1000):
        rows.add(one)
    sampled = Run("sampled", rows.table(), rows.seen, "d1")
    told = compare(run_of(answers(1, 1000)), sampled, resamples=FEW)
    assert told.why == "paired: 100 requests of the same schedule are in both runs"
    assert found(told, "requests_per_s").b == pytest.approx(10, rel=0.02)
    assert found(told, "ttft_p50").direction == "same"


def test_too_few_requests_have_no_interval() -> None:
    told = compare(run_of(answers(1, 150)), run_of(answers(2, 150)), resamples=FEW)
    assert found(told, "ttft_p50").low is not None
    assert found(told, "ttft_p99").low is None
    assert found(told, "ttft_p99").direction == "unclear"
    told = compare(run_of(answers(1, 15)), run_of(answers(2, 15)), resamples=FEW)
    assert {one.low for one in told.differences} == {None}


def test_only_the_measured_phase_is_compared() -> None:
    warm = [
        replace(one, phase="warmup", first_token_s=one.intended_s + 9) for one in answers(1, 100)
    ]
    told = compare(run_of(warm + answers(1)[100:]), run_of(answers(1)), resamples=FEW)
    assert found(told, "ttft_mean").direction == "same"
    with pytest.raises(StatisticsError, match="B: has no measured request; run it for longer"):
        compare(run_of(answers(1)), run_of(warm, "B"))


def test_what_the_user_cancelled_is_not_compared() -> None:
    stopped = [failed(index, index / 10, outcome="cancelled") for index in range(400, 500)]
    told = compare(run_of(answers(1)), run_of(answers(1) + stopped), resamples=FEW)
    assert found(told, "errors").direction == "same"
    assert told.why.startswith("paired: 400 requests")


def test_runs_without_an_answer_are_compared_by_their_errors_alone() -> None:
    dead = run_of([failed(index) for index in range(30)])
    told = compare(dead, dead, resamples=FEW)
    assert [one.figure for one in told.differences] == ["errors"]
