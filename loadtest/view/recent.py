"""A run as it stands and what it did in the last seconds: what a live view shows."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from loadtest.running.phases import Phases
from loadtest.running.state import Progress
from loadtest.samples import Phase
from loadtest.statistics.histogram import Histogram, Spread
from loadtest.statistics.measured import Measured

LATELY_S = 10.0
"""What is shown as `now` is of so many seconds: shorter, it jumps too much to be read."""
HISTORY = 30
"""Stretches of the run, seconds at first, that small lines are drawn of."""
_KINDS_OF_ERRORS = 3
_SHORTEST_S = 0.5
"""A rate over less time says nothing."""

Stage = Literal["warm-up", "measured", "cool-down", "waiting", "ending"]
_STAGES: dict[Phase, Stage] = {
    "warmup": "warm-up",
    "measured": "measured",
    "cooldown": "cool-down",
}


@dataclass(frozen=True, slots=True)
class Now:
    """A run at one moment. Rates are None before there is enough time to count them by."""

    at_s: float
    stage: Stage
    """`waiting`: the last request is sent, answers are still to come."""
    part_done: float | None
    """From 0 to 1; None where nobody knows when the run ends."""
    left_s: float | None
    sent: int
    answered: int
    failed: int
    in_flight: int
    sent_per_s: float | None
    answered_per_s: float | None
    output_tokens_per_s: float | None
    """Of answers that ended lately."""
    ttft_lately: Spread
    ttft: Spread
    """Both of the measured phase."""
    itl_lately: Spread
    itl: Spread
    good_share: float | None
    """None without objectives, or before the first request that is judged."""
    errors: list[tuple[str, int]]
    """The commonest kinds of the measured phase."""
    lag_p99_s: float | None
    """Sent after intended, lately."""
    cpu_share: float | None
    """Of a core, of this process, lately."""
    answers_by_time: list[float | None]
    ttft_by_time: list[float | None]
    """Answers a second, and the p95 of TTFT, of all phases; the last stretches that are over."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """What had been counted at one moment."""

    at_s: float
    cpu_s: float
    sent: int
    ok: int
    failed: int
    output_tokens: float
    ttft: Histogram
    itl: Histogram
    lag: Histogram


class Recent:
    """Told of the run's progress; remembers the last seconds, so that it knows what they brought.

    expected_s, expected_requests: when the run ends and how many requests it has, as far as that
    is known. phases: None where the phase is to be told from what was measured so far.
    """

    def __init__(
        self,
        measured: Measured,
        expected_s: float | None,
        expected_requests: float | None,
        phases: Phases | None = None,
        cpu_time: Callable[[], float] = time.process_time,
    ) -> None:
        self._measured = measured
        self._expected_s = expected_s
        self._expected_requests = expected_requests
        self._phases = phases
        self._cpu_time = cpu_time
        self._marks: deque[_Mark] = deque()

    def now(self, progress: Progress) -> Now:
        """The run at this progress, which is no earlier than the last."""
        mark, at_s = self._mark(progress), max(progress.now_s, 0.0)
        self._marks.append(mark)
        while len(self._marks) > 1 and self._marks[1].at_s <= mark.at_s - LATELY_S:
            self._marks.popleft()
        since, took_s = self._marks[0], mark.at_s - self._marks[0].at_s

        def per_s(amount: float) -> float | None:
            return amount / took_s if took_s >= _SHORTEST_S else None

        figures, cells = self._measured.figures, self._measured.timeline.lately(at_s, HISTORY)
        part_done, left_s = self._how_far(at_s, progress)
        return Now(
            at_s=at_s,
            stage=self._stage(at_s, progress),
            part_done=part_done,
            left_s=left_s,
            sent=progress.sent,
            answered=mark.ok,
            failed=mark.failed,
            in_flight=progress.in_flight,
            sent_per_s=per_s(mark.sent - since.sent),
            answered_per_s=per_s(mark.ok - since.ok),
            output_tokens_per_s=per_s(mark.output_tokens - since.output_tokens),
            ttft_lately=mark.ttft.since(since.ttft).spread(),
            ttft=mark.ttft.spread(),
            itl_lately=mark.itl.since(since.itl).spread(),
            itl=mark.itl.spread(),
            good_share=self._good_share(),
            errors=figures.errors.most_common(_KINDS_OF_ERRORS),
            lag_p99_s=mark.lag.since(since.lag).percentile(99),
            cpu_share=per_s(mark.cpu_s - since.cpu_s),
            answers_by_time=[cell.ok_per_s for cell in cells],
            ttft_by_time=[cell.ttft_p95_s for cell in cells],
        )

    def _mark(self, progress: Progress) -> _Mark:
        figures, totals = self._measured.figures, self._measured.timeline.totals()
        return _Mark(
            at_s=progress.now_s,
            cpu_s=self._cpu_time(),
            sent=progress.sent,
            ok=totals.ok,
            failed=totals.failed,
            output_tokens=totals.output_tokens,
            ttft=figures.all.ttft.copy(),
            itl=figures.all.itl.copy(),
            lag=figures.lag.copy(),
        )

    def _good_share(self) -> float | None:
        figures = self._measured.figures
        if figures.slo is None or not figures.all.judged:
            return None
        return figures.all.good / figures.all.judged

    def _how_far(self, at_s: float, progress: Progress) -> tuple[float | None, float | None]:
        """The part done and the seconds left. By time where an end is known, else by requests."""
        if progress.stopped:
            return None, None
        if self._expected_s:
            return min(at_s / self._expected_s, 1.0), max(self._expected_s - at_s, 0.0)
        if self._expected_requests:
            done = min(progress.ended / self._expected_requests, 1.0)
            return done, at_s / done - at_s if done else None
        return None, None

    def _stage(self, at_s: float, progress: Progress) -> Stage:
        if progress.stopped:
            return "ending"
        if self._all_sent(at_s, progress):
            return "waiting"
        if self._phases is None:
            return self._stage_by_samples()
        return _STAGES[self._phases.of(progress.sent, at_s)]

    def _all_sent(self, at_s: float, progress: Progress) -> bool:
        if self._expected_s:
            return at_s >= self._expected_s
        return bool(self._expected_requests) and progress.sent >= (self._expected_requests or 0)

    def _stage_by_samples(self) -> Stage:
        figures = self._measured.figures
        if figures.outside["cooldown"]:
            return "cool-down"
        warming = figures.outside["warmup"] and not figures.all.outcomes
        return "warm-up" if warming else "measured"
