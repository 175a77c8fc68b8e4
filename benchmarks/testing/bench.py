"""The order of a testers' run: agreement in turns, rates that rise, a flood."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.sides.engine import Engine
from benchmarks.sides.processes import ChildFailed
from benchmarks.sides.question import BASE, STREAM_TOKENS, Target, body
from benchmarks.sides.rounds import turn
from benchmarks.sides.wrk import run_wrk
from benchmarks.testing.figures import GUIDELLM, OURS, VLLM, Figures
from benchmarks.testing.loads import Load, Pace, next_rate
from benchmarks.testing.results import (
    STANDARDS,
    Agreed,
    Flooded,
    Results,
    Standard,
    Tried,
    wrong,
)
from benchmarks.testing.sides import Guidellm, Ours, Side, Vllm

AGREEMENT_PACE = Pace(first_s=0.1, token_s=0.02)
AGREEMENT_RATE, AGREEMENT_TOKENS = 21.7, 64
"""A rate whose sendings fall anywhere between the engine's steps of 20 ms."""
FIRST_RATE = {OURS: 450.0, VLLM: 120.0, GUIDELLM: 40.0}
_MOST_TRIES = 14
_CONNECTIONS, _WRK_S = 64, 3.0
SIDES: dict[str, Callable[[str, Path, int], Side]] = {
    OURS: Ours, VLLM: Vllm, GUIDELLM: Guidellm,
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """rounds: of the agreement. agreement_s, speed_s: how long requests are sent. attempts: how
    often a rate may be tried before it counts as missed. speed_rounds: of rising rates."""

    rounds: int
    agreement_s: float
    speed_rounds: int
    speed_s: float
    attempts: int
    flood_requests: int
    flood_users: tuple[int, ...]
    at_once: int = 1
    """Tokens in one of the engine's writes, but for the agreement."""
    token_s: float = 0.01
    """Between a stream's tokens, in the search for what is sustained: the longer, the more streams
    run at a rate of tokens, and the more tokens come in one burst."""

    @property
    def speed_pace(self) -> Pace:
        return Pace(first_s=0.1, token_s=self.token_s, at_once=self.at_once)

    @property
    def flood_pace(self) -> Pace:
        """It does not wait."""
        return Pace(first_s=0.0, token_s=0.0, at_once=self.at_once)


class Bench:
    """One run over all sides."""

    def __init__(
        self,
        plan: Plan,
        names: list[str],
        engine: Engine,
        folder: Path,
        cores: tuple[int, int],
        results: Results,
        say: Callable[[str], object],
    ) -> None:
        """cores: the engine's and the tester's."""
        self._plan = plan
        self._engine = engine
        self._folder = folder
        self._core = cores[1]
        self._results = results
        self._say = say
        self._names = names
        self._sides: dict[str, Side] = {}

    def run(self) -> None:
        """Raises ChildFailed, KeyboardInterrupt; what was measured until then is in the results."""
        try:
            for name in self._names:
                self._say(f"starting {name}")
                self._sides[name] = SIDES[name](self._engine.url, self._folder, self._core)
            self._agree()
            self._results.engine_tokens_per_s.append(self._ceiling())
            for number in range(self._plan.speed_rounds):
                for name in turn(self._names, number):
                    self._rise(number, name)
            self._results.engine_tokens_per_s.append(self._ceiling())
            self._flood()
        finally:
            for side in self._sides.values():
                side.stop()

    def _agree(self) -> None:
        self._pace(AGREEMENT_PACE)
        load = Load(
            round(self._plan.agreement_s * AGREEMENT_RATE), AGREEMENT_TOKENS, AGREEMENT_RATE
        )
        for number in range(self._plan.rounds):
            for name in turn(self._names, number):
                self._say(f"agreement, round {number + 1}: {name}")
                self._results.agreed.append(Agreed(number, name, self._sides[name].ask(load)))

    def _rise(self, number: int, name: str) -> None:
        """Searches what the side sustains by each standard; a try counts for both."""
        self._pace(self._plan.speed_pace)
        self._say(f"{name}: where nothing presses it")
        truth = self._sides[name].ask(_unpressed(self._plan)).figures
        for standard in STANDARDS:
            # A side that a run has shown to be fast begins near the rate at which it ended.
            before = self._results.sustained(name, standard)
            first = max(before, default=0.0) / STREAM_TOKENS * 0.8 or FIRST_RATE[name]
            for _ in range(_MOST_TRIES):
                rates = self._results.rates(number, name, standard)
                rate = next_rate(first, rates)
                if rate is None or self._results.far_from_best(name, standard, rates):
                    break
                self._try(number, name, rate, standard, truth)

    def _try(self, number: int, name: str, rate: float, standard: Standard, truth: Figures) -> None:
        load = Load(round(self._plan.speed_s * rate), STREAM_TOKENS, rate)
        for attempt in range(self._plan.attempts):
            self._say(f"{name}: {load.offered:,.0f} tokens/s")
            told = self._sides[name].ask(load)
            pace = self._plan.speed_pace
            latency_s = pace.first_s + pace.token_s * STREAM_TOKENS
            step_s = pace.at_once * rate * latency_s / self._results.engine_tokens_per_s[0]
            reasons = wrong(told, load, truth, latency_s, step_s)
            one = Tried(number, name, load, told, reasons, attempt)
            self._results.tried.append(one)
            self._say(f"  {'holds' if one.held(standard) else '; '.join(reasons[standard])}")
            if one.held(standard):
                return

    def _ceiling(self) -> float:
        """Tokens a second that leave the engine where wrk reads them."""
        self._say("the engine alone, read by wrk")
        self._pace(self._plan.flood_pace)
        target = Target(self._engine.url, BASE)
        before = self._engine.totals()["tokens_sent"]
        content = body(BASE, STREAM_TOKENS, streamed=True)
        found = run_wrk(
            target, content, connections=_CONNECTIONS, seconds=_WRK_S, core=self._core,
            folder=self._folder,
        )  # fmt: skip
        return (self._engine.totals()["tokens_sent"] - before) / found.seconds

    def _flood(self) -> None:
        self._pace(self._plan.flood_pace)
        for users in self._plan.flood_users:
            for name in self._names:
                self._say(f"as fast as it goes, {users} users: {name}")
                load = Load(self._plan.flood_requests, STREAM_TOKENS, users=users)
                try:
                    told = self._sides[name].ask(load)
                except ChildFailed as failure:
                    self._results.notes.append(f"{name}, {users} users: {failure}")
                    continue
                self._results.flooded.append(Flooded(name, users, told))

    def _pace(self, pace: Pace) -> None:
        url = f"{self._engine.url}/_fake/control"
        httpx.post(url, json=pace.as_behaviour(), trust_env=False).raise_for_status()


def _unpressed(plan: Plan) -> Load:
    """The same streams at a rate that presses nobody."""
    return Load(round(plan.agreement_s * AGREEMENT_RATE), STREAM_TOKENS, AGREEMENT_RATE)
