"""The search for the knee with runs of simulated engines: what it asks, when it ends and how."""

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest.client.target import Target
from loadtest.knee import Ask, Knee, Plan, Probe, broken_off, hopeless, next_rate
from loadtest.running.brake import Brake
from loadtest.running.guard import Guard, Limits
from loadtest.running.options import Options
from loadtest.running.run import run
from loadtest.running.search import SETTLE_S, Found, Probed, at_rate, search
from loadtest.running.sending import OnSample
from loadtest.running.state import Ended, OnProgress, PartOutcome, Progress, RunOutcome, outcome_of
from loadtest.running.tester import OwnFigures
from loadtest.samples import Phase, Sample
from loadtest.statistics.goodput import parse_slo
from loadtest.statistics.measured import Measured
from loadtest.workload.arrivals import Trace
from loadtest.workload.errors import WorkloadError
from loadtest.workload.loading import make_workload
from loadtest.workload.spec import Model, Workload
from loadtest.workload.stages import RateStage
from tests.fake_engine import FakeEngine
from tests.load_engines import arrivals_of, failed, slots, timed

TARGET = Target("http://127.0.0.1:9")
CAPACITY = 40.0
ENGINE = slots(8, lambda rng: 0.2)
"""Eight at a time of 0.2 s each."""


def workload(**arrivals: Any) -> Workload:
    given = {"kind": "constant", "stages": [{"rate": 1, "seconds": 1}], **arrivals}
    return make_workload({"models": ["bot"], "arrivals": given, "requests": 7, "seed": 5}, Path())


def stage_of(load: Workload) -> RateStage:
    """The one stage of a probe."""
    assert not isinstance(load.arrivals, Trace)
    (stage,) = load.arrivals.stages
    assert isinstance(stage, RateStage)
    return stage


def outcome(ended: Ended = "completed", problem: str | None = None, *, seconds: float = 60.0,
            waits: int = 0) -> RunOutcome:  # fmt: skip
    """waits: above 0 the tester was bound."""
    return outcome_of(PartOutcome(ended, problem, seconds, 0, 0, OwnFigures(waits=waits)), 1)


@dataclass
class FakeRuns:
    """In place of `run`: what the engine would have answered, at once."""

    ends: Callable[[int], RunOutcome | None] = lambda number: None
    """How the run of that number ends, if not well."""
    asked: list[tuple[Workload, Options]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    crowd: Callable[[int], int] | None = None
    """In flight, as the progress tells it; else what is sent and not answered."""

    def __call__(
        self,
        workload: Workload,
        target: Target,
        options: Options,
        on_sample: OnSample,
        *,
        on_progress: OnProgress | None,
        brake: Brake | None,
    ) -> RunOutcome:
        assert target is TARGET
        assert brake is not None
        self.asked.append((workload, options))
        number = len(self.asked)
        stage = stage_of(workload)
        assert stage.seconds is not None
        ended = self.ends(number)
        samples = [] if ended else answered(stage.rate, stage.seconds, options)
        braked_s: list[float] = []
        brake.attach(lambda: braked_s.append(samples[place].ended_s or 0.0))
        sent, place, end_s = 0, 0, 0.0
        for place, sample in enumerate(samples):
            if braked_s and (sample.sent_s or 0.0) > braked_s[0]:
                continue
            sent, end_s = sent + 1, sample.ended_s or 0.0
            on_sample(sample)
            if place % 40 == 39 and on_progress is not None:
                on_progress(self._progress(sample.ended_s or 0.0, samples, number))
        self.sent.append(sent)
        return ended or outcome(seconds=end_s)

    def _progress(self, now_s: float, samples: list[Sample], number: int) -> Progress:
        ended = sum((sample.ended_s or 0.0) <= now_s for sample in samples)
        sent = sum((sample.sent_s or 0.0) <= now_s for sample in samples)
        return Progress(now_s, ended + self.crowd(number) if self.crowd else sent, ended)


def answered(rate: float, seconds: float, options: Options) -> list[Sample]:
    arrivals = np.array(arrivals_of(rate, seconds, random.Random(1), poisson=False))
    waits, _ = ENGINE(arrivals, random.Random(1))
    phases = options.phases(seconds)
    samples = [
        dataclasses.replace(
            timed(index, float(at_s), float(wait_s) + 0.2), phase=phases.of(index, float(at_s))
        )
        for index, (at_s, wait_s) in enumerate(zip(arrivals, waits, strict=True))
    ]
    return sorted(samples, key=lambda sample: sample.ended_s or 0.0)


@dataclass
class Seen:
    """What a search told and did."""

    found: Found
    asks: list[Ask]
    told: list[Probed]
    slept: list[float]
    runs: FakeRuns


def searched(runs: FakeRuns | None = None, plan: Plan | None = None, **options: Any) -> Seen:
    runs, asks, told, slept = runs or FakeRuns(), list[Ask](), list[Probed](), list[float]()

    def on_ask(ask: Ask, number: int, measured: Measured, load: Workload) -> None:
        assert number == len(asks) + 1
        assert measured.rows.seen == 0
        assert stage_of(load).rate == ask.rate
        asks.append(ask)

    found = search(
        workload(), TARGET, Options(**options), parse_slo("ttft=400ms"), plan or Plan(start=10),
        probe_s=20, warmup_s=5, on_ask=on_ask, on_probed=told.append, runs=runs,
        sleep=slept.append,
    )  # fmt: skip
    return Seen(found, asks, told, slept, runs)


def test_it_finds_what_the_engine_can_do() -> None:
    seen = searched()
    knee = seen.found.knee
    assert knee.found
    assert knee.rate == pytest.approx(CAPACITY, rel=0.03)
    assert (seen.found.ended, seen.found.problem) == ("completed", None)
    assert seen.found.probes == [one.probe for one in seen.told]
    assert [one.rate for one in seen.asks] == [one.rate for one in seen.found.probes]
    assert seen.slept == [SETTLE_S] * (len(seen.asks) - 1)
    assert seen.found.shown is not None
    assert seen.found.shown.probe.rate == knee.holds
    assert seen.found.shown is [one for one in seen.told if one.probe.rate == knee.holds][-1]


def test_a_probe_is_warm_before_and_loaded_after_its_measured_phase() -> None:
    seen = searched(warmup_requests=9, stop_after_s=3.0, grace_s=2.0)
    for ask, (load, options), probe in zip(
        seen.asks, seen.runs.asked, seen.found.probes, strict=True
    ):
        stage = stage_of(load)
        assert (stage.rate, stage.seconds) == (ask.rate, 20 * ask.stretch + 10)
        assert load.requests is None
        assert (options.warmup_s, options.cooldown_s) == (5, 5)
        assert (options.warmup_requests, options.stop_after_s, options.grace_s) == (0, None, 2)
        if probe.sustained:
            assert probe.requests == pytest.approx(ask.rate * 20 * ask.stretch, abs=1)


def test_each_probe_has_a_seed_of_its_own_and_all_come_again() -> None:
    first, again = searched(), searched()
    seeds = [load.seed for load, _ in first.runs.asked]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [load.seed for load, _ in again.runs.asked]
    other = workload().model_copy(update={"seed": 6})
    assert at_rate(other, 10, 1, 1).seed != seeds[0]


def test_a_hopeless_probe_is_given_up() -> None:
    """Far beyond the knee most of what was planned is not sent, and the rate does not hold."""
    seen = searched(plan=Plan(start=400))
    first = seen.found.probes[0]
    assert seen.runs.sent[0] < 0.4 * 400 * 30
    assert (first.sustained, first.share) == (False, 0.0)
    assert first.served_per_s == pytest.approx(CAPACITY, rel=0.05)
    assert seen.told[0].outcome.ended == "completed"
    assert seen.found.knee.rate == pytest.approx(CAPACITY, rel=0.03)


def test_a_probe_that_holds_is_not_given_up() -> None:
    seen = searched()
    held = [sent for sent, one in zip(seen.runs.sent, seen.found.probes, strict=True)
            if one.share >= 0.95]  # fmt: skip
    planned = [(one.rate * 30) for one in seen.found.probes if one.share >= 0.95]
    assert held
    assert all(sent >= one - 1 for sent, one in zip(held, planned, strict=True))


def test_it_tells_of_the_progress() -> None:
    told: list[Progress] = []
    search(
        workload(), TARGET, Options(), parse_slo("ttft=400ms"), Plan(start=10, most_probes=1),
        probe_s=20, warmup_s=5, on_ask=lambda *_: told.append, on_probed=lambda _: None,
        runs=FakeRuns(crowd=lambda number: 3), sleep=lambda _: None,
    )  # fmt: skip
    assert {one.in_flight for one in told} == {3}


def test_an_interruption_ends_the_search_with_what_was_found() -> None:
    seen = searched(FakeRuns(lambda number: outcome("interrupted") if number == 4 else None))
    assert (seen.found.ended, len(seen.found.probes), len(seen.told)) == ("interrupted", 3, 4)
    knee = seen.found.knee
    assert (knee.holds, knee.fails, knee.found) == (40, None, False)
    assert knee.reason.startswith("the search was interrupted (")
    assert seen.found.shown is not None
    assert seen.found.shown.probe.rate == knee.holds


def test_an_interruption_of_the_first_probe_still_shows_it() -> None:
    seen = searched(FakeRuns(lambda number: outcome("interrupted")))
    assert seen.found.probes == []
    assert seen.found.shown is seen.told[0]
    assert seen.found.knee.rate is None


def test_an_interruption_between_probes_ends_the_search() -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    found = search(
        workload(), TARGET, Options(), parse_slo("ttft=400ms"), Plan(start=10), probe_s=20,
        warmup_s=5, on_ask=lambda *_: None, on_probed=lambda _: None, runs=FakeRuns(),
        sleep=interrupted,
    )  # fmt: skip
    assert (found.ended, len(found.probes), found.knee.holds) == ("interrupted", 1, 10)


def test_a_target_that_is_not_there_ends_the_search_with_the_problem() -> None:
    gone = outcome("target", "http://127.0.0.1:9 cannot be reached: nothing listens there")
    seen = searched(FakeRuns(lambda number: gone))
    assert (seen.found.ended, seen.found.problem) == ("target", gone.problem)
    assert len(seen.asks) == 1
    assert seen.found.knee.reason == f"{gone.problem} (no rate held, none failed)"
    assert seen.found.shown is seen.told[0]


def test_a_tester_that_is_bound_twice_ends_the_search() -> None:
    seen = searched(FakeRuns(lambda number: outcome(waits=1) if number >= 2 else None))
    assert [one.rate for one in seen.asks] == [10, 20, 20]
    assert "the tester itself could not keep 20 a second" in seen.found.knee.reason
    assert seen.found.shown is seen.told[0]
    assert seen.found.ended == "completed"


def test_a_tester_that_is_bound_once_is_asked_again() -> None:
    seen = searched(FakeRuns(lambda number: outcome(waits=1) if number == 2 else None))
    assert [one.rate for one in seen.asks[:4]] == [10, 20, 20, 40]
    assert seen.found.knee.rate == pytest.approx(CAPACITY, rel=0.03)


def test_only_an_open_loop_has_a_rate_to_search() -> None:
    closed = make_workload(
        {"models": ["bot"], "arrivals": {"kind": "closed", "stages": [{"users": 1, "seconds": 1}]}},
        Path(),
    )
    with pytest.raises(WorkloadError, match="arrivals: of kind `closed` have no rate to search"):
        search(
            closed, TARGET, Options(), parse_slo("ttft=1s"), Plan(), probe_s=1, warmup_s=1,
            on_ask=lambda *_: None, on_probed=lambda _: None,
        )  # fmt: skip


@pytest.mark.parametrize("kind", [{"kind": "poisson"}, {"kind": "gamma", "burstiness": 0.5}])
def test_the_kind_of_arrivals_stays(kind: dict[str, Any]) -> None:
    load = at_rate(workload(**kind), 12.5, 30, 1)
    stage = stage_of(load)
    assert load.arrivals.model_dump(exclude={"stages"}) == kind
    assert (stage.rate, stage.to, stage.seconds) == (12.5, None, 30)


def test_hopeless_is_certain() -> None:
    assert not hopeless(100, 1000, 0.95)
    assert hopeless(101, 1000, 0.95)


def test_a_search_that_is_broken_off_tells_what_it_knows() -> None:
    history = [Probe(1, 100, 100, 1), Probe(2, 100, 10, 1)]
    assert broken_off(history, Plan(), "enough") == Knee(
        1, 1, 2, False, "enough (1 a second held, 2 did not)", 2
    )
    assert isinstance(next_rate(history, Plan()), Ask)


def test_a_brake_pulled_before_the_run_stops_it_at_once() -> None:
    brake, stops = Brake(3.0), list[int]()
    brake.pull()
    brake.attach(lambda: stops.append(1))
    brake.pull()
    assert (brake.pulled, stops) == (True, [1])


@pytest.mark.parametrize("processes", [1, 2])
def test_a_brake_ends_a_run_in_order(fake_engine: FakeEngine, processes: int) -> None:
    """What is under way is answered, and the run counts as completed."""
    load = workload(stages=[{"rate": 200, "seconds": 60}]).model_copy(update={"requests": None})
    brake, samples = Brake(60), list[Sample]()

    def take(sample: Sample) -> None:
        samples.append(sample)
        if len(samples) == 3:
            brake.pull()

    load = load.model_copy(update={"models": (Model(name="base"),)})
    ended = run(load, Target(fake_engine.url), Options(processes=processes), take, brake=brake)
    assert (ended.ended, ended.problem) == ("completed", None)
    assert 3 <= ended.sent == len(samples) < 6000
    assert {sample.outcome for sample in samples} == {"ok"}


def test_the_guard_lets_a_probe_be_that_may_still_hold() -> None:
    """Of 1,000 planned 100 may be bad: these are not, though nothing keeps the objective lately."""
    guard = guarded(planned=1000)
    fill(guard, good=0, bad=100)
    for second, in_flight in enumerate([10, 20, 30, 40, 50, 100]):
        guard.tell(Progress(float(second), 100 + in_flight, 100))
    assert not guard.brake.pulled


def test_the_guard_gives_up_when_too_many_were_bad() -> None:
    guard = guarded(planned=1000)
    fill(guard, good=899, bad=101)
    assert guard.brake.pulled


def test_bad_answers_of_the_warm_up_do_not_count() -> None:
    guard = guarded(planned=1000)
    fill(guard, good=0, bad=500, phase="warmup")
    guard.tell(Progress(1.0, 500, 500))
    assert not guard.brake.pulled


RISING = [100, 110, 120, 130]


@pytest.mark.parametrize(
    ("good", "bad", "in_flight", "at_s", "given_up"),
    [
        (0, 20, RISING, 5.0, True),
        (0, 19, RISING, 5.0, False),  # too few answers to say
        (10, 10, RISING, 5.0, False),  # half of them are good
        (0, 20, [100, 110, 120, 119], 5.0, False),  # it recovers
        (0, 20, [97, 98, 99, 100], 5.0, False),  # these may all be bad, and it would still hold
        (0, 20, RISING, 4.9, False),  # still warming up
    ],
)
def test_the_guard_gives_up_when_too_many_wait_behind_bad_ones(
    good: int, bad: int, in_flight: list[int], at_s: float, *, given_up: bool
) -> None:
    guard = guarded(planned=1000)
    fill(guard, good=good, bad=bad, phase="warmup")
    for place, many in enumerate(in_flight):
        guard.tell(Progress(at_s - len(in_flight) + 1 + place, many, 0))
    assert guard.brake.pulled is given_up


@pytest.mark.parametrize(("crowd", "given_up"), [(79, False), (80, True)])
def test_the_guard_gives_up_when_failures_take_the_testers_connections(
    crowd: int, *, given_up: bool
) -> None:
    guard = guarded(planned=100_000, max_connections=100)
    fill(guard, good=0, bad=20, phase="warmup")
    guard.tell(Progress(1.0, crowd, 0))
    assert guard.brake.pulled is given_up


def test_cancelled_answers_say_nothing() -> None:
    guard = guarded(planned=10)
    for index in range(10):
        guard.add(failed(index, outcome="cancelled"))
    assert not guard.brake.pulled


def guarded(planned: float, max_connections: int = 10_000) -> Guard:
    slo = parse_slo("ttft=400ms")
    return Guard(Measured(slo), Limits(slo, 0.95, 5.0, planned, max_connections))


def fill(guard: Guard, *, good: int, bad: int, phase: Phase = "measured") -> None:
    for index, wait_s in enumerate([0.1] * good + [9.0] * bad):
        guard.add(dataclasses.replace(timed(index, 0.0, wait_s), phase=phase))
