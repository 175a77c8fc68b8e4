"""The search for the knee, on engines whose capacity is known, and step by step."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise

import numpy as np
import pytest

from loadtest.knee import Ask, Knee, Plan, Probe, curve, falling, next_rate, piles_up
from loadtest.samples import Phase
from loadtest.statistics.goodput import parse_slo
from loadtest.statistics.measured import Measured
from loadtest.statistics.probes import probe_of
from tests.load_engines import Engine, arrivals_of, probe, slots, thrashing, timed

TARGET = 0.95


def erlang_c(servers: int, load: float) -> float:
    """The share of requests that wait in an M/M/c queue (Erlang's second formula)."""
    blocked = 1.0
    for many in range(1, servers + 1):
        blocked = load * blocked / (many + load * blocked)
    busy = load / servers
    return blocked / (1 - busy + busy * blocked)


def mmc_capacity(servers: int, per_s: float, most_s: float) -> float:
    """The rate at which just TARGET of the requests wait at most `most_s`."""
    low, high = 0.0, servers * per_s
    for _ in range(60):
        rate = (low + high) / 2
        late = erlang_c(servers, rate / per_s) * math.exp(-(servers * per_s - rate) * most_s)
        low, high = (rate, high) if late <= 1 - TARGET else (low, rate)
    return low


# Each with the rate it can hold: 16 at a time of 0.2 s each; the same with work that spreads as
# chance has it, by queueing theory; and one that collapses with half more at a time than it likes.
ENGINES: dict[str, tuple[Engine, float, float, bool]] = {
    "hard_limit": (slots(16, lambda rng: max(rng.gauss(0.2, 0.01), 0.1)), 80.0, 0.5, False),
    "saturating": (slots(16, lambda rng: rng.expovariate(5)), mmc_capacity(16, 5, 0.4), 0.4, True),
    "collapsing": (thrashing(80, 16, 1.5, 0.1), 80.0, 0.4, False),
}


def search(shape: str, seed: int, plan: Plan) -> tuple[Knee, list[Probe]]:
    engine, _, most_s, poisson = ENGINES[shape]
    rng, history = random.Random(f"{shape} {seed}"), list[Probe]()
    while isinstance(asked := next_rate(history, plan), Ask):
        history.append(
            probe(
                engine,
                asked.rate,
                rng,
                most_s=most_s,
                seconds=120 * asked.stretch,
                poisson=poisson,
            )
        )
    return asked, history


@pytest.mark.parametrize("shape", ENGINES)
def test_the_knee_is_within_5_percent_of_the_capacity_and_of_itself(shape: str) -> None:
    capacity, found = ENGINES[shape][1], list[float]()
    for seed, start in enumerate([1, 50, 300, 7]):
        knee, history = search(shape, seed, Plan(start=start, target=TARGET))
        assert knee.found
        assert knee.rate is not None
        assert len(history) <= 24
        assert knee.rate == pytest.approx(capacity, rel=0.05)
        found.append(knee.rate)
    assert max(found) / min(found) < 1.05


def test_the_collapse_is_a_collapse() -> None:
    """Else the shapes would not differ: beyond its knee it serves less than it could, while the one
    with a hard limit serves all it can."""
    rng = random.Random(0)
    served = {
        shape: probe(engine, 100, rng, most_s=most_s, poisson=False).served_per_s
        for shape, (engine, _, most_s, _) in ENGINES.items()
    }
    assert served["hard_limit"] == pytest.approx(80, rel=0.02)
    assert served["collapsing"] < 40


def ideal(capacity: float) -> Callable[[float], Probe]:
    """An engine without noise: all is good up to its capacity, and nothing beyond."""
    return lambda rate: Probe(
        rate, 1000, 1000 if rate <= capacity else 0, served_per_s=min(rate, capacity)
    )


def searched(answer: Callable[[float], Probe], plan: Plan) -> tuple[Knee, list[Probe]]:
    history: list[Probe] = []
    while isinstance(asked := next_rate(history, plan), Ask):
        history.append(answer(asked.rate))
    return asked, history


@pytest.mark.parametrize("capacity", [0.3, 1.0, 17.0, 999.0])
@pytest.mark.parametrize("start", [0.02, 1.0, 5000.0])
def test_without_noise_the_ends_close_in_on_the_capacity(capacity: float, start: float) -> None:
    knee, history = searched(ideal(capacity), Plan(start=start, most_probes=40))
    assert knee.found
    assert knee.holds is not None
    assert knee.fails is not None
    assert knee.rate is not None
    assert knee.holds <= capacity < knee.fails <= knee.holds * 1.0201
    assert knee.holds <= knee.rate <= knee.fails
    assert knee.reason == (
        f"{knee.holds:g} a second held and {knee.fails:g} did not, each probed more than once"
    )
    assert knee.probes == len(history) <= abs(math.log2(capacity / start)) + 12


@pytest.mark.parametrize(("requests", "exact"), [(999, False), (1000, True)])
def test_it_says_when_probes_were_short(requests: int, *, exact: bool) -> None:
    def answer(rate: float) -> Probe:
        return replace(ideal(10)(rate), requests=requests, good=requests if rate <= 10 else 0)

    knee, _ = searched(answer, Plan())
    assert knee.reason.endswith("each probed more than once") is exact
    assert ("(probes of 999 requests: longer ones are more exact)" in knee.reason) is not exact


def test_it_doubles_then_closes_in_with_longer_probes() -> None:
    answer, plan, asked, history = ideal(10), Plan(), list[Ask](), list[Probe]()
    while isinstance(one := next_rate(history, plan), Ask):
        asked.append(one)
        history.append(answer(one.rate))
    assert [one.rate for one in asked[:5]] == [1, 2, 4, 8, 16]
    # What the engine served when it was asked for too much says where to look.
    assert asked[5].rate == 10
    assert [one.stretch for one in asked] == sorted(one.stretch for one in asked)
    assert (asked[0].stretch, asked[-1].stretch) == (1, 2)
    assert [one.rate for one in asked[-2:]] == [10, one.fails]


def test_one_unlucky_probe_is_probed_again() -> None:
    """The third probe, at 4 a second, fails for no reason of the engine's."""
    answers, probes = ideal(10), count(1)

    def unlucky(rate: float) -> Probe:
        return Probe(rate, 200, 0, rate) if next(probes) == 3 else answers(rate)

    knee, history = searched(unlucky, Plan(most_probes=40))
    assert knee.rate == pytest.approx(10, rel=0.02)
    assert len(history) <= 30


def test_a_rate_at_which_work_piles_up_does_not_hold() -> None:
    slow = Probe(8, 1000, 1000, served_per_s=5, sustained=False)
    assert curve([slow], TARGET)[0].share == 0
    asked = next_rate([slow], Plan())
    assert isinstance(asked, Ask)
    assert asked.rate < 8


@pytest.mark.parametrize(
    ("arrivals", "begin", "end", "piled"),
    [(1000, 10, 60, False), (1000, 10, 200, True), (100, 0, 20, False), (100, 0, 40, True)],
)
def test_work_that_piles_up(arrivals: int, begin: int, end: int, piled: bool) -> None:
    assert piles_up(arrivals, begin, end) is piled


def run(rate: float, slo: str) -> Measured:
    """20 s of warm-up and 40 s measured against 16 slots of 0.2 s, which hold 80 a second."""
    measured, rng = Measured(parse_slo(slo)), random.Random(1)
    engine = ENGINES["hard_limit"][0]
    arrivals = np.array(arrivals_of(rate, 60, rng, poisson=False))
    for index, (at_s, wait_s) in enumerate(zip(arrivals, engine(arrivals, rng)[0], strict=True)):
        phase: Phase = "warmup" if at_s < 20 else "measured"
        measured.add(replace(timed(index, at_s, wait_s + 0.2), phase=phase))
    return measured


def test_a_run_is_a_probe() -> None:
    held = probe_of(run(70, "ttft=300ms"), 70, 20, 60, tester_bound=False)
    assert (held.rate, held.sustained, held.tester_bound) == (70, True, False)
    assert held.requests == held.good == pytest.approx(2800, abs=1)
    assert held.served_per_s == pytest.approx(70, rel=0.01)


def test_a_run_beyond_the_capacity_is_not_sustained_even_within_its_objectives() -> None:
    beyond = probe_of(run(100, "ttft=60s"), 100, 20, 60, tester_bound=False)
    assert beyond.requests == beyond.good
    assert beyond.served_per_s == pytest.approx(80, rel=0.02)
    assert not beyond.sustained
    assert beyond.share == 0


def test_a_run_without_objectives_is_no_probe() -> None:
    with pytest.raises(ValueError, match="the run has no objectives"):
        probe_of(Measured(), 1, 0, 1, tester_bound=False)


def test_it_stops_at_the_highest_rate_allowed() -> None:
    knee, history = searched(ideal(1000), Plan(highest=12))
    assert [one.rate for one in history] == [1, 2, 4, 8, 12]
    assert (knee.rate, knee.fails, knee.found) == (12, None, False)
    assert knee.reason == "12 a second held, the highest rate allowed; allow more to find the knee"


def test_it_stops_where_no_rate_holds() -> None:
    knee, history = searched(ideal(0), Plan(lowest=0.25))
    assert [one.rate for one in history] == [1, 0.5, 0.25]
    assert (knee.rate, knee.found) == (None, False)
    assert knee.reason == (
        "0.25 did not, the lowest rate allowed: the objectives do not hold at any rate"
    )


def test_it_stops_when_the_tester_is_bound() -> None:
    def bound(rate: float) -> Probe:
        return Probe(rate, 1000, 0 if rate > 5 else 1000, rate, tester_bound=rate > 5)

    knee, _ = searched(bound, Plan())
    assert (knee.rate, knee.fails, knee.found) == (4, None, False)
    assert knee.reason == (
        "the tester itself could not keep 8 a second (4 a second held); "
        "give it more processes or another machine"
    )
    alone, _ = searched(bound, Plan(start=6))
    assert (alone.rate, alone.found) == (None, False)
    assert "no rate held" in alone.reason


def test_it_stops_when_its_probes_are_spent() -> None:
    knee, history = searched(ideal(1000), Plan(most_probes=5))
    assert len(history) == 5
    assert (knee.rate, knee.found) == (16, False)
    assert knee.reason == (
        "5 probes were made, as many as allowed (16 a second held, none failed); "
        "allow more, or longer ones, which are less noisy"
    )


def test_probes_without_a_request_do_not_go_on_forever() -> None:
    knee, history = searched(lambda rate: Probe(rate, 0, 0, 0.0), Plan(most_probes=3))
    assert [one.rate for one in history] == [1, 1, 1]
    assert (knee.rate, knee.found) == (None, False)
    assert "3 probes were made" in knee.reason


def test_the_curve_pools_probes_of_a_rate_and_falls() -> None:
    levels = curve(
        [
            Probe(4, 100, 90, 4),
            Probe(2, 100, 100, 2),
            Probe(4, 200, 200, 3.8),
            Probe(4, 100, 94, 3.9),
            Probe(8, 100, 98, 7),
            Probe(16, 100, 10, 8),
            Probe(32, 100, 100, 32, tester_bound=True),
        ],
        TARGET,
    )
    assert [level.rate for level in levels] == [2, 4, 8, 16]
    assert [level.probes for level in levels] == [1, 3, 1, 1]
    assert [level.share for level in levels] == pytest.approx([1, 0.94, 0.98, 0.1])
    assert [level.agreed for level in levels] == [True, False, True, True]
    assert levels[1].smoothed == levels[2].smoothed == pytest.approx((4 * 0.94 + 0.98) / 5)
    assert levels[1].served_per_s == pytest.approx(3.9)


def test_falling_values_are_the_nearest() -> None:
    assert falling([3, 2, 1], [1, 1, 1]) == [3, 2, 1]
    assert falling([1, 2, 3], [1, 1, 2]) == [2.25, 2.25, 2.25]
    rng = random.Random(5)
    values = [rng.random() for _ in range(50)]
    smooth = falling(values, [1.0] * 50)
    assert all(a >= b for a, b in pairwise(smooth))
    assert sum(smooth) == pytest.approx(sum(values))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"start": 0.001}, "start 0.001 does not lie from 0.01"),
        ({"start": 1e6}, "does not lie from"),
        ({"lowest": 0.0}, "does not lie from 0 "),
        ({"highest": math.inf}, "does not lie from"),
        ({"target": 1.0}, "target share 1: must lie between 0 and 1"),
        ({"tolerance": 0.0}, "tolerance 0: must lie from 0.5% to 50%"),
        ({"most_probes": 0}, "probes are 1 or more"),
    ],
)
def test_plans_that_leave_nothing_to_search_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Plan(**wrong)  # type: ignore[arg-type]
