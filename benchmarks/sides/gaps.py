"""A histogram of times that costs one addition a sample: 0.05 ms a bucket, up to 5 s."""

from dataclasses import dataclass
from itertools import accumulate

PER_SECOND = 20_000
_BUCKETS = 5 * PER_SECOND


@dataclass(frozen=True)
class Spread:
    """Milliseconds; all 0 where there was no sample."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


class Gaps:
    """Times in seconds, counted."""

    def __init__(self) -> None:
        self.buckets = [0] * (_BUCKETS + 1)
        """The last holds all that is longer. Whoever counts does so here, without a call."""
        self.last = _BUCKETS
        self.longest_s = 0.0

    def add(self, time_s: float, count: int = 1) -> None:
        """Count a time so often."""
        self.buckets[min(int(time_s * PER_SECOND), self.last)] += count
        self.longest_s = max(self.longest_s, time_s)

    def spread(self) -> Spread:
        """Percentiles, each the upper end of its bucket."""
        count = sum(self.buckets)
        if not count:
            return Spread(0, 0.0, 0.0, 0.0, 0.0)
        p50, p90, p99 = (self._percentile(count, share) for share in (0.5, 0.9, 0.99))
        return Spread(count, p50, p90, p99, round(self.longest_s * 1e3, 3))

    def _percentile(self, count: int, share: float) -> float:
        seen = accumulate(self.buckets)
        index = next(index for index, below in enumerate(seen) if below >= count * share)
        return (index + 1) * 1e3 / PER_SECOND
