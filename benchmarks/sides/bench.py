"""The run: rounds of wrk, the paced streams, the profiles; what fails is noted and left out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from benchmarks.sides.engine import Engine
from benchmarks.sides.loraplex_side import Loraplex
from benchmarks.sides.paced import Paced, measure_paced
from benchmarks.sides.processes import ChildFailed
from benchmarks.sides.profiler import Spy
from benchmarks.sides.results import Results
from benchmarks.sides.rounds import turn
from benchmarks.sides.side import Direct, Running, Side, check_answers
from benchmarks.sides.window import Scenario, measure

Begin = Callable[[], None]

# Asked for 25,000 chunks a second, it would only queue: it does a thousand.
_TOO_SLOW_FOR_A_PACE = {"litellm"}


class Progress(Protocol):
    """Who is told how far the run is."""

    def say(self, text: str) -> None:
        """What is being done."""
        ...

    def note(self, text: str) -> None:
        """What went wrong."""
        ...

    def step(self, text: str) -> None:
        """A measurement begins; `Plan.steps` of them make a run."""
        ...


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    rounds: int
    seconds: float
    scenarios: tuple[Scenario, ...]
    """Of wrk."""
    paced: bool
    paced_seconds: float
    paced_streams: int
    token_time_s: float
    many: bool
    many_seconds: float
    many_streams: int
    many_token_time_s: float
    profiles: bool
    profile_seconds: float

    def steps(self, sides: int) -> int:
        """How many measurements it takes, the engine itself counted among the sides."""
        profiles = (len(self.scenarios) + self.paced + self.many) * self.profiles
        paced = sides * self.paced + self.many
        return self.rounds * len(self.scenarios) * sides + paced + profiles


class Bench:
    """One run over an engine that is up."""

    def __init__(
        self,
        plan: Plan,
        sides: Sequence[Side],
        engine: Engine,
        folder: Path,
        cores: tuple[int, int],
        results: Results,
        progress: Progress,
    ) -> None:
        """cores: the engine's and load's, and the proxy's. sides: all but the engine itself."""
        self._plan = plan
        self._sides: list[Side] = [Direct(), *sides]
        self._engine = engine
        self._folder = folder
        self._load_core, self._proxy_core = cores
        self._results = results
        self._progress = progress

    def run(self) -> None:
        """Everything planned, in order; results grow as it goes."""
        plan = self._plan
        for number in range(plan.rounds if plan.scenarios else 0):
            for side in turn(self._sides, number):
                self._round(number, side)
        if plan.paced:
            for side in self._sides:
                self._paced(side)
        if plan.many:
            self._many()
        if plan.profiles and (plan.scenarios or plan.paced):
            self._profiles()

    @contextmanager
    def _running(self, side: Side, cores: Sequence[int]) -> Iterator[Running]:
        folder = self._folder / side.name
        folder.mkdir(exist_ok=True)
        self._progress.say(f"starting {side.name}")
        running = side.start(self._engine, folder, cores)
        try:
            stream_bytes = check_answers(running)
            yield replace(running, stream_bytes=stream_bytes)
        finally:
            running.stop()

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        """A side that fails is noted and left out; the others are still worth measuring."""
        try:
            yield
        except ChildFailed as failure:
            self._results.notes.append(f"{what}: {failure}")
            self._progress.note(f"{what}: {failure}")

    def _round(self, number: int, side: Side) -> None:
        plan = self._plan
        with (
            self._noted(f"round {number + 1}, {side.name}"),
            self._running(side, [self._proxy_core]) as running,
        ):
            for scenario in plan.scenarios:
                self._progress.step(
                    f"round {number + 1} of {plan.rounds}: {scenario.name}, {side.name}"
                )
                window = measure(
                    scenario,
                    running,
                    self._engine,
                    round_number=number,
                    seconds=plan.seconds,
                    core=self._load_core,
                    folder=self._folder,
                )
                self._results.windows.append(window)

    def _paced(self, side: Side) -> None:
        plan = self._plan
        if side.name in _TOO_SLOW_FOR_A_PACE:
            self._results.notes.append(f"{side.name} is left out of paced: it would only queue")
            return
        with self._noted(f"paced, {side.name}"), self._running(side, [self._proxy_core]) as running:
            self._progress.step(f"paced: {plan.paced_streams} streams, {side.name}")
            self._results.paced.append(self._stream(running, plan.paced_seconds))

    def _many(self) -> None:
        """Loraplex on all cores: two workers have more to do than one core does."""
        plan = self._plan
        cores = [self._load_core, self._proxy_core]
        with self._noted("many"), self._running(Loraplex(workers=2), cores) as running:
            self._progress.step(f"many: {plan.many_streams} streams, two workers")
            self._results.many.append(self._stream_many(running, plan.many_seconds))
            if plan.profiles:
                self._profile(running, "many", partial(self._stream_many, running))

    def _profiles(self) -> None:
        """Of Loraplex alone, beside the counted rounds: looking at a process slows it."""
        own = next((side for side in self._sides if isinstance(side, Loraplex)), None)
        if own is None:
            return
        with self._noted("profiles"), self._running(own, [self._proxy_core]) as running:
            for scenario in self._plan.scenarios:
                self._profile(running, scenario.name, partial(self._wrk, running, scenario))
            if self._plan.paced:
                self._profile(running, "paced", partial(self._stream, running))

    def _profile(self, running: Running, name: str, work: Callable[[float, Begin], object]) -> None:
        """work: takes how long it is to last, and what to call when its steady part begins."""
        assert running.child is not None
        self._progress.step(f"profile: {name}")
        gateway, seconds = running.child.find("-m", "gateway"), self._plan.profile_seconds
        with Spy(name, gateway, seconds, self._load_core, self._folder) as spy:
            work(seconds, spy.begin)
            self._results.profiles.append(spy.finish())

    def _wrk(self, running: Running, scenario: Scenario, seconds: float, begin: Begin) -> None:
        begin()
        measure(
            scenario,
            running,
            self._engine,
            round_number=0,
            seconds=seconds,
            core=self._load_core,
            folder=self._folder,
        )

    def _stream(self, running: Running, seconds: float, begin: Begin | None = None) -> Paced:
        return measure_paced(
            running,
            self._engine,
            streams=self._plan.paced_streams,
            token_time_s=self._plan.token_time_s,
            seconds=seconds,
            core=self._load_core,
            on_window=begin,
        )

    def _stream_many(self, running: Running, seconds: float, begin: Begin | None = None) -> Paced:
        return measure_paced(
            running,
            self._engine,
            streams=self._plan.many_streams,
            token_time_s=self._plan.many_token_time_s,
            seconds=seconds,
            core=self._load_core,
            on_window=begin,
        )
