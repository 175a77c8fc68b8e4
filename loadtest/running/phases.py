"""Warm-up, measured, cool-down: which a request belongs to."""

from dataclasses import dataclass

from loadtest.samples import Phase


@dataclass(frozen=True, slots=True)
class Phases:
    """A request belongs where it was meant to be sent, however late it was."""

    warmup_s: float = 0.0
    warmup_requests: int = 0
    """So many of the schedule's first are warm-up too."""
    cooldown_from_s: float | None = None
    """None: no cool-down."""

    def of(self, index: int, intended_s: float) -> Phase:
        """index: in the schedule. intended_s: from the run's begin."""
        if intended_s < self.warmup_s or index < self.warmup_requests:
            return "warmup"
        if self.cooldown_from_s is not None and intended_s >= self.cooldown_from_s:
            return "cooldown"
        return "measured"
