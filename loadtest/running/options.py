"""How a run is done, apart from what is sent and where."""

from dataclasses import dataclass, field
from pathlib import Path

from loadtest.client.reply import Timeouts
from loadtest.running.phases import Phases
from loadtest.workload.errors import WorkloadError


@dataclass(frozen=True, slots=True)
class Options:
    """Raises WorkloadError for what does not go together."""

    warmup_s: float = 0.0
    warmup_requests: int = 0
    cooldown_s: float = 0.0
    """The schedule's last seconds; it must have an end of its own."""
    stop_after_s: float | None = None
    """Send nothing from then on, whatever the schedule has."""
    grace_s: float = 5.0
    """How long what is under way may take after an interruption; then it is cancelled."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_connections: int = 10_000
    requests_per_connection: int | None = None
    processes: int = 1
    tokenizer: Path | None = None
    """Counts the tokens of answers whose server does not; it takes the tester's time."""
    keep_going: bool = False
    """Do not end when the target turns out to be wrong or not there."""

    def __post_init__(self) -> None:
        for name in ("warmup_s", "cooldown_s", "grace_s", "warmup_requests"):
            if getattr(self, name) < 0:
                raise WorkloadError(f"{name}: must be 0 or more")
        for name in ("processes", "max_connections"):
            if getattr(self, name) < 1:
                raise WorkloadError(f"{name}: must be 1 or more")

    def end_s(self, schedule_s: float | None) -> float | None:
        """When the last request may be sent. schedule_s: the schedule's own end, if known."""
        ends = [one for one in (schedule_s, self.stop_after_s) if one is not None]
        return min(ends, default=None)

    def phases(self, schedule_s: float | None) -> Phases:
        """Raises WorkloadError where nothing would be measured."""
        end_s = self.end_s(schedule_s)
        if end_s is None:
            if self.cooldown_s:
                raise WorkloadError(
                    "cooldown_s: the schedule has no end in time; give it seconds, or --duration"
                )
            return Phases(self.warmup_s, self.warmup_requests)
        if end_s and self.warmup_s + self.cooldown_s >= end_s:
            raise WorkloadError(
                f"warmup_s: warm-up and cool-down take all of the run's {end_s:g} s; shorten them"
            )
        cooldown = end_s - self.cooldown_s if self.cooldown_s else None
        return Phases(self.warmup_s, self.warmup_requests, cooldown)
