"""Gives a probe up when it cannot hold any more.

Far beyond the knee requests would else pile up until the tester has no connection left, and the
server would be busy with them for long.
"""

from collections import deque
from dataclasses import dataclass

from loadtest.knee import hopeless
from loadtest.running.brake import Brake
from loadtest.running.state import OnProgress, Progress
from loadtest.samples import Sample
from loadtest.statistics.goodput import Slo
from loadtest.statistics.latencies import latencies
from loadtest.statistics.measured import Measured

DRAIN_S = 30.0
"""How long answers may take after a probe that was given up; then they are cancelled."""
_LATEST = 50
_ENOUGH = 20
"""So many answers must have come before they say anything."""
_RISES = 3
"""So often in a row must more be under way than before: a server that recovers has fewer."""
_CROWDED = 0.8
"""With this share of its connections in use the tester is near its own limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a probe is judged by. planned: requests of its measured phase."""

    slo: Slo
    target: float
    warmup_s: float
    planned: float
    max_connections: int


class Guard:
    """Takes a probe's samples and progress for those who want them, and pulls the brake."""

    def __init__(
        self, measured: Measured, limits: Limits, on_progress: OnProgress | None = None
    ) -> None:
        self.brake = Brake(DRAIN_S)
        self._measured = measured
        self._limits = limits
        self._on_progress = on_progress
        self._bad = 0
        self._latest: deque[bool] = deque(maxlen=_LATEST)
        """Which of the latest answers were good, of all phases."""
        self._in_flight = 0
        self._rises = 0

    def add(self, sample: Sample) -> None:
        self._measured.add(sample)
        if sample.outcome == "cancelled":
            return
        good = self._limits.slo.holds(sample, latencies(sample))
        self._latest.append(good)
        if not good and sample.phase == "measured":
            self._bad += 1
            if hopeless(self._bad, self._limits.planned, self._limits.target):
                self.brake.pull()

    def tell(self, progress: Progress) -> None:
        """Each second."""
        self._rises = self._rises + 1 if progress.in_flight > self._in_flight else 0
        self._in_flight = progress.in_flight
        if self._mostly_bad() and (self._crowded() or self._buried(progress.now_s)):
            self.brake.pull()
        if self._on_progress is not None:
            self._on_progress(progress)

    def _mostly_bad(self) -> bool:
        return len(self._latest) >= _ENOUGH and sum(self._latest) < len(self._latest) / 2

    def _crowded(self) -> bool:
        """Whether soon the tester would be what is measured."""
        return self._in_flight >= _CROWDED * self._limits.max_connections

    def _buried(self, now_s: float) -> bool:
        """Whether too many wait behind those that were bad, and always more."""
        limits = self._limits
        many = hopeless(self._in_flight, limits.planned, limits.target)
        return now_s >= limits.warmup_s and many and self._rises >= _RISES
