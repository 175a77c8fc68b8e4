"""The rules whose truth truth.py knows, and what its report says of what it found."""

import json
import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.truths.bound import Verdict
from benchmarks.truths.cases import CROWDED, FIXED, FREEZING, SPREAD, TARGET, Case, knee_cases
from benchmarks.truths.engine import FIRST, TOKEN, tail
from benchmarks.truths.freeze import Told, Truth, open_load, truth_of
from benchmarks.truths.knees import Searched
from benchmarks.truths.report import Results, claims, markdown, settled
from benchmarks.truths.shapes import (
    Batch,
    batch_capacity,
    erlang_c,
    evenly,
    frozen_latencies,
    mmc_capacity,
    nearest_rank,
    simulate_batch,
    simulate_slots,
)
from tests.load_engines import thawed


def test_work_stands_still_while_the_engine_is_frozen() -> None:
    assert FREEZING.done(0.0, 0.5) == 0.5
    assert FREEZING.done(7.9, 0.1) == 8.0
    assert FREEZING.done(7.9, 0.3) == pytest.approx(10.2)
    assert FREEZING.done(8.0, 0.5) == pytest.approx(10.5)
    assert FREEZING.done(9.9, 8.5) == pytest.approx(20.5)
    for at_s in np.linspace(0, 30, 301):
        assert FREEZING.done(at_s, 0.25) == pytest.approx(thawed(at_s, 0.25), abs=1e-9)


def test_the_truth_of_a_freeze_is_what_the_schedule_meets() -> None:
    """Of arrivals at any moment a hundredth waits more than 1.9 s, and then its work."""
    ttft, e2e = frozen_latencies(FREEZING, list(evenly(100, 100)))
    assert nearest_rank(ttft, 99) == pytest.approx(1.9 + FREEZING.first_s, abs=0.015)
    assert nearest_rank(e2e, 99) == pytest.approx(1.92, abs=0.025)
    assert ttft.max() <= 2 + FREEZING.first_s + 1e-9
    truth = truth_of(open_load(100))
    assert truth.ttft_p99_s == pytest.approx(1.9, abs=0.1)
    assert truth.e2e_p99_s > truth.ttft_p99_s


def test_nearest_rank() -> None:
    values = np.arange(1, 101, dtype=np.float64)
    assert (nearest_rank(values, 99), nearest_rank(values, 50)) == (99, 50)
    assert nearest_rank(np.array([3.0]), 99) == 3


def test_queueing_theory_agrees_with_the_simulated_rule() -> None:
    assert erlang_c(1, 0.5) == pytest.approx(0.5)
    rng = random.Random(3)
    capacity = mmc_capacity(SPREAD, 0.1, TARGET)
    arrivals = np.cumsum([rng.expovariate(capacity) for _ in range(200_000)])
    begins, _ = simulate_slots(SPREAD, arrivals, rng)
    assert ((begins - arrivals) <= 0.1).mean() == pytest.approx(TARGET, abs=0.01)


def test_fixed_slots_hold_just_their_capacity() -> None:
    for rate, most_s in ((159.9, 1e-6), (163.0, math.inf)):
        arrivals = evenly(rate, 60)
        begins, ends = simulate_slots(FIXED, arrivals, random.Random(0))
        assert (begins - arrivals).max() <= most_s
        assert ends - begins == pytest.approx(np.full(len(arrivals), FIXED.service_s))
    assert (begins - arrivals).max() > 1


def test_a_batch_steps_all_of_its_requests_together() -> None:
    shape = Batch(most=2, roomy=2, step_s=1.0, each_s=0.0, tokens=2)
    firsts, lasts = simulate_batch(shape, np.array([0.0, 0.5, 0.6, 9.0]))
    # The third waits for a place: the batch takes two.
    assert list(firsts) == [1, 2, 3, 10]
    assert list(lasts) == [2, 3, 4, 11]


def test_a_crowded_batch_collapses_beyond_its_knee() -> None:
    capacity = batch_capacity(CROWDED, 0.020, TARGET, seconds=30)
    full = CROWDED.roomy / (CROWDED.tokens * CROWDED.step(CROWDED.roomy))
    assert capacity == pytest.approx(full, rel=0.02)
    arrivals = evenly(capacity * 1.1, 30)
    _, lasts = simulate_batch(CROWDED, arrivals)
    assert (lasts <= 30).sum() / 30 < 0.6 * capacity


def test_three_shapes_of_knee() -> None:
    cases = {case.engine: case for case in knee_cases()}
    assert cases["fixed"].capacity == 160
    assert 0.8 < cases["spread"].capacity * SPREAD.service_s / SPREAD.slots < 0.95
    assert cases["crowded"].capacity == pytest.approx(222, rel=0.01)


def test_the_engines_answer_is_a_stream_as_vllms() -> None:
    body = (FIRST + TOKEN + tail(3)).partition(b"\r\n\r\n")[2]
    events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]"
    said = [json.loads(event) for event in events[:-1]]
    words = [one["choices"][0]["delta"].get("content") for one in said if one["choices"]]
    assert words == ["", " word", " word", " word"]
    assert said[-1]["usage"]["completion_tokens"] == 3
    assert body.endswith(b"0\r\n\r\n")


LATE = {"writes": 9, "p50_s": 1e-4, "p99_s": 0.002, "max_s": 0.1}


def searched(rate: float | None, repeat: int = 0, **changed: Any) -> Searched:
    fields: dict[str, Any] = {
        "case": "fixed", "repeat": repeat, "start": 16.0, "rate": rate, "holds": rate,
        "fails": 170.0, "found": True, "reason": "", "seconds": 60.0, "requests": 9000,
        "lag_p99_s": 0.001, "bound": 0, "probes": [], "late": LATE,
    }  # fmt: skip
    return Searched(**(fields | changed))


def results(**found: Any) -> Results:
    machine = {"processor": "a processor", "cores": "2", "priority": "usual"}
    return Results("2030-01-01 00:00 UTC", {}, machine, {"Python": "3.11"}, **found)


def held(found: Results, begins: str) -> list[bool]:
    return [ok for text, ok in claims(found) if text.startswith(begins)]


CASE = Case("fixed", "slots", "constant", "ttft=100ms", 160.0, "rule")


@pytest.mark.parametrize(
    ("rates", "near", "agree"),
    [
        ([158, 161], [True], [True]),
        ([150, 161], [False], [False]),
        ([153, 167], [True], [False]),
        ([160], [True], []),
        ([None, 160], [False], []),
    ],
)
def test_what_is_said_of_knees(
    rates: list[float | None], near: list[bool], agree: list[bool]
) -> None:
    found = results(cases=[CASE], knees=[searched(rate, n) for n, rate in enumerate(rates)])
    assert held(found, "knee of `fixed`") == near
    assert held(found, "searches of `fixed`") == agree
    assert held(found, "each search of `fixed`") == [False] * rates.count(None)


def test_a_search_that_did_not_end_has_not_found_the_knee() -> None:
    found = results(cases=[CASE], knees=[searched(160, found=False)])
    assert held(found, "knee of `fixed`") == [False]


def test_what_is_said_of_a_freeze() -> None:
    ours = Told("ours", "open loop", 3000, 1.95, 2.1, LATE)
    users = Told("users", "closed loop", 3000, 0.011, 1.5, LATE)
    wrk = Told("wrk", "corrected", 3000, None, 1.9, LATE)
    found = results(truth=Truth(1.9, 1.92), freeze=[ours, users, wrk])
    assert held(found, "within 5 %: ours") == [True, False]
    assert held(found, "far off: users") == [True, False]
    assert len(held(found, "")) == 5
    assert "| wrk | 3,000 | - | - | 1.900 s | -1.0% | 2.00 ms |" in markdown(found)


def test_an_engine_that_is_late_itself_has_no_truth() -> None:
    late = replace(searched(160), late=LATE | {"p99_s": 0.011})
    assert held(results(knees=[searched(160)]), "the engines kept") == [True]
    assert held(results(knees=[searched(160), late]), "the engines kept") == [False]
    told = Told("ours", "open loop", 3000, 1.9, 1.9, LATE | {"p99_s": 0.019})
    found = results(truth=Truth(1.9, 1.95), freeze=[told])
    assert held(found, "the engines kept") == [True]
    found.freeze.append(replace(told, late=LATE | {"p99_s": 0.020}))
    assert held(found, "the engines kept") == [False]


@pytest.mark.parametrize(
    ("what", "last", "flat"),
    [
        ("statistics", 1005, True),
        ("statistics", 1011, False),
        ("http", 1049, True),
        ("http", 1051, False),
    ],
)
def test_what_is_said_of_memory(what: str, last: int, *, flat: bool) -> None:
    steps = [[100_000, 800], [400_000, 900], [500_000, 1000], [1_000_000, last]]
    assert settled(steps) == [500_000, 1000]
    assert settled([[90_000, 1], [110_000, 2], [150_000, 3]]) == [110_000, 2]
    assert held(results(memory={what: {"steps": steps}}), "memory flat") == [flat]


def test_what_is_said_of_a_tester_that_is_too_slow() -> None:
    slow = Verdict(100.0, 100.0, False, (), 0.001, 0.1)
    fast = Verdict(50_000.0, 9_000.0, True, ("late",), 5.0, 1.0)
    assert held(results(bound=[slow, fast]), "at ") == [True, True]
    wrong = [replace(slow, bound=True, reasons=("late",)), replace(fast, bound=False, reasons=())]
    assert held(results(bound=wrong), "at ") == [False, False]


def test_the_page_says_that_it_is_a_part() -> None:
    assert "A part only" in markdown(results())
    whole = results(cases=[CASE], knees=[searched(161)])
    whole.partial = False
    page = markdown(whole)
    assert "A part only" not in page
    assert "| `fixed` | 16 | 161.0 | +0.6% | 0 | 9,000 | 1.0 | 2.00 ms |" in page
