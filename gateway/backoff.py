"""How long to wait before a process is started again. Pure."""

from dataclasses import dataclass


@dataclass
class Backoff:
    """Doubles from first_s to most_s with every early death; a process long up starts afresh."""

    first_s: float = 1.0
    most_s: float = 30.0
    stable_s: float = 60.0
    _next_s: float = 0.0

    def after(self, up_s: float) -> float:
        """Seconds to wait, after a process that was up for up_s died."""
        if up_s >= self.stable_s or not self._next_s:
            self._next_s = self.first_s
        delay_s = self._next_s
        self._next_s = min(self.most_s, self._next_s * 2)
        return delay_s
