"""Whether the tester itself kept up: its lag, its event loop's delay, its CPU, its limits."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest.client.clock import Clock, Handle
from loadtest.samples import Sample
from loadtest.statistics.histogram import Histogram

PROBE_S = 0.02
"""So often the event loop is asked whether it comes in time; that takes no thousandth of it."""
WINDOW_S = 1.0
"""CPU is averaged over so long: shorter, the kernel's ticks show; longer, a ramp's end is lost."""
LATE_S = 0.010
"""Lag and delay up to here are let pass: a fifth of the 50 ms a token that SLOs commonly ask."""
LATE_SHARE = 0.05
"""And up to this share of the median latency: so much of every figure may be the tester's own."""
CPU_SHARE = 0.9
"""An event loop has one core; above this, queueing makes answers look several times too slow."""


@dataclass(slots=True)
class OwnFigures:
    """What one process saw of itself in the measured phase. Mergeable."""

    lag: Histogram = field(default_factory=Histogram)
    """Sent after intended, in seconds."""
    loop_delay: Histogram = field(default_factory=Histogram)
    latency: Histogram = field(default_factory=Histogram)
    """To the first token, or to the whole answer where it was not streamed."""
    cpu: Histogram = field(default_factory=Histogram)
    """Share of a core, a window a value; of several processes each on its own."""
    waits: int = 0
    """Requests that waited because the tester's limit of connections was reached."""
    out_of_files: int = 0
    """Connections refused by this machine, which had no file descriptor left."""

    def merge(self, other: "OwnFigures") -> None:
        for name in ("lag", "loop_delay", "latency", "cpu"):
            getattr(self, name).merge(getattr(other, name))
        self.waits += other.waits
        self.out_of_files += other.out_of_files


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the figures may be the tester's own instead of the server's, and why."""

    bound: bool
    reasons: tuple[str, ...]
    lag_p50_s: float | None
    lag_p90_s: float | None
    lag_p99_s: float | None
    lag_max_s: float | None
    loop_delay_p99_s: float | None
    loop_delay_max_s: float | None
    cpu_share: float | None
    """The median window's."""


def judge(figures: OwnFigures) -> Verdict:
    """The verdict on a run, from all its processes' figures."""
    lag, delay = figures.lag.spread(), figures.loop_delay.spread()
    cpu = figures.cpu.percentile(50)
    allowed_s = max(LATE_S, LATE_SHARE * (figures.latency.percentile(50) or 0.0))
    reasons = [
        f"{what} at the 99th percentile, more than {_ms(allowed_s)}"
        for late_s, what in (
            (lag.p99, f"requests were sent {_ms(lag.p99)} late"),
            (delay.p99, f"answers were read {_ms(delay.p99)} late"),
        )
        if late_s is not None and late_s > allowed_s
    ]
    if cpu is not None and cpu > CPU_SHARE:
        reasons.append(f"the tester used {cpu:.0%} of its core; --processes gives it more")
    if figures.waits:
        reasons.append(f"{figures.waits} requests waited for a connection; raise --max-connections")
    if figures.out_of_files:
        reasons.append(
            f"{figures.out_of_files} connections found no file descriptor; raise `ulimit -n`"
        )
    return Verdict(
        bool(reasons), tuple(reasons),
        lag.p50, lag.p90, lag.p99, lag.max, delay.p99, delay.max, cpu,
    )  # fmt: skip


class Watch:
    """Gathers a process's OwnFigures while it runs."""

    def __init__(
        self,
        clock: Clock,
        measured: Callable[[float], bool],
        cpu_time: Callable[[], float] = time.process_time,
    ) -> None:
        """measured: whether a moment of the clock is in the measured phase."""
        self.figures = OwnFigures()
        self._clock = clock
        self._measured = measured
        self._cpu_time = cpu_time
        self._due_s = 0.0
        self._window_s = 0.0
        self._cpu_s = 0.0
        self._handle: Handle | None = None

    def start(self) -> None:
        """From now on the event loop is probed."""
        self._window_s, self._cpu_s = self._clock.now(), self._cpu_time()
        self._next()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def note(self, sample: Sample) -> None:
        """Takes a request into account."""
        if sample.phase != "measured" or sample.sent_s is None:
            return
        self.figures.lag.add(max(0.0, sample.sent_s - sample.intended_s))
        answered_s = sample.first_token_s or sample.ended_s
        if sample.outcome == "ok" and answered_s is not None:
            self.figures.latency.add(max(0.0, answered_s - sample.intended_s))

    def _next(self) -> None:
        self._due_s = self._clock.now() + PROBE_S
        self._handle = self._clock.call_at(self._due_s, self._probe)

    def _probe(self) -> None:
        now_s = self._clock.now()
        if self._measured(now_s):
            self.figures.loop_delay.add(max(0.0, now_s - self._due_s))
        if now_s - self._window_s >= WINDOW_S:
            cpu_s = self._cpu_time()
            if self._measured(self._window_s):
                self.figures.cpu.add((cpu_s - self._cpu_s) / (now_s - self._window_s))
            self._window_s, self._cpu_s = now_s, cpu_s
        self._next()


def _ms(seconds: float | None) -> str:
    return f"{1000 * (seconds or 0.0):.3g} ms"
