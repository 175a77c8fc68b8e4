"""A histogram of durations: fixed memory, mergeable, percentiles within 0.2 % of the true ones."""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

FINE_BITS = 8
"""256 buckets an octave: a bucket is at most 1/256, 0.39 %, wide."""
COARSE_BITS = 5
"""32 buckets an octave, for what is only looked at: at most 3.1 % wide."""
LOWEST_S = 2.0**-20
"""Below it, about a microsecond, all values share the first bucket."""
HIGHEST_S = 2.0**20
"""From it on, 12 days, all values share the last bucket."""

_MANTISSA_BITS = 52
_PENDING = 256
"""Values are sorted into buckets so many at a time: one by one it would take ten times as long."""

Method = Literal["linear", "inverted_cdf"]


@dataclass(frozen=True, slots=True)
class Spread:
    """How a figure is distributed; None where there is no value. Units as the values'."""

    count: int
    mean: float | None
    min: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: float | None


class Histogram:
    """Counts of values >= 0 in log-linear buckets; count, sum, minimum and maximum are exact.

    Memory: 2 KiB for each octave that has been seen and those between (`bits` 8), at most 80 KiB,
    however many values come.
    """

    def __init__(self, bits: int = FINE_BITS) -> None:
        self.bits = bits
        self._shift = _MANTISSA_BITS - bits
        self._offset = int(np.array(LOWEST_S).view(np.int64)) >> self._shift
        self._last = int(np.array(HIGHEST_S).view(np.int64) >> self._shift) - self._offset + 1
        self._first = 0
        """The bucket that `_counts` begins with; a multiple of an octave."""
        self._counts = np.zeros(0, np.int64)
        self._pending = array("d")
        self._heavy = array("d")
        self._weights = array("q")
        self._count = 0
        self._sum = 0.0
        self._min = math.inf
        self._max = 0.0

    def add(self, value: float, weight: int = 1) -> None:
        """Adds a value, `weight` times. Raises ValueError where it is below 0 or not finite."""
        if not 0.0 <= value < math.inf or weight < 0:
            raise ValueError(f"{value} (times {weight}) is no duration")
        if weight == 1:
            self._pending.append(value)
            if len(self._pending) >= _PENDING:
                self._sort_in()
        elif weight:
            self._heavy.append(value)
            self._weights.append(weight)
            if len(self._heavy) >= _PENDING:
                self._sort_in()

    def extend(self, values: NDArray[np.float64]) -> None:
        """Adds values; they are checked when they are sorted in, so only finite ones >= 0."""
        self._pending.frombytes(np.ascontiguousarray(values, np.float64).tobytes())
        if len(self._pending) >= _PENDING:
            self._sort_in()

    def merge(self, other: "Histogram") -> None:
        """Adds all of another histogram's values. Raises ValueError where its buckets differ."""
        if other.bits != self.bits:
            raise ValueError(f"buckets of {other.bits} bits do not go into {self.bits}")
        self._sort_in()
        other._sort_in()
        if not other._count:
            return
        self._cover(other._first, other._first + len(other._counts) - 1)
        begin = other._first - self._first
        self._counts[begin : begin + len(other._counts)] += other._counts
        self._note(other._count, other._sum, other._min, other._max)

    def copy(self) -> Self:
        """All values so far."""
        made = type(self)(self.bits)
        made.merge(self)
        return made

    def since(self, earlier: "Histogram") -> Self:
        """The values added after `earlier`, a copy of this one, was made; their least and greatest
        only as far as buckets tell."""
        made = self.copy()
        if not earlier.count:
            return made
        begin = earlier._first - made._first
        made._counts[begin : begin + len(earlier._counts)] -= earlier._counts
        made._count -= earlier._count
        made._sum = max(made._sum - earlier._sum, 0.0)
        held = np.flatnonzero(made._counts)
        if not held.size:
            return type(self)(self.bits)
        bounds = made._bounds(np.array([held[0], held[-1] + 1]) + made._first)
        made._min = max(made._min, float(bounds[0]))
        made._max = min(made._max, float(bounds[1]))
        return made

    @property
    def count(self) -> int:
        return self._count + len(self._pending) + sum(self._weights)

    @property
    def sum(self) -> float:
        self._sort_in()
        return self._sum

    @property
    def mean(self) -> float | None:
        return self.sum / self.count if self.count else None

    @property
    def min(self) -> float | None:
        self._sort_in()
        return self._min if self._count else None

    @property
    def max(self) -> float | None:
        self._sort_in()
        return self._max if self._count else None

    def percentile(self, percent: float, method: Method = "linear") -> float | None:
        """The value below which `percent` of the values lie; None where there is no value.

        method: as numpy's. `linear` goes between the two values next to the place, `inverted_cdf`
        takes the first value that enough others reach. A value is its bucket's middle, within the
        least and the greatest.
        """
        return self._percentiles([percent], method)[0]

    def spread(self, method: Method = "linear") -> Spread:
        p50, p90, p95, p99 = self._percentiles([50, 90, 95, 99], method)
        return Spread(self.count, self.mean, self.min, p50, p90, p95, p99, self.max)

    def cdf(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """For a plot: values in order, and the share of all that is no greater. Empty at first."""
        self._sort_in()
        held = np.flatnonzero(self._counts)
        if not held.size:
            return np.zeros(0), np.zeros(0)
        upper = self._bounds(held + self._first + 1)
        upper[-1] = self._max
        values = np.concatenate([[self._min], np.clip(upper, self._min, self._max)])
        shares = np.concatenate([[0.0], np.cumsum(self._counts[held]) / self._count])
        return values, shares

    def to_json(self) -> dict[str, Any]:
        """All that `from_json` needs: only buckets that hold something are listed."""
        self._sort_in()
        held = np.flatnonzero(self._counts)
        return {
            "bits": self.bits,
            "sum": self._sum,
            "min": self.min,
            "max": self.max,
            "buckets": (held + self._first).tolist(),
            "counts": self._counts[held].tolist(),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """The histogram that `to_json` told of. Raises KeyError where a field is missing."""
        made = cls(told["bits"])
        buckets = np.array(told["buckets"], np.int64)
        if buckets.size:
            made._cover(int(buckets[0]), int(buckets[-1]))
            made._counts[buckets - made._first] = told["counts"]
            made._note(sum(told["counts"]), told["sum"], told["min"], told["max"])
        return made

    def _percentiles(self, percents: Sequence[float], method: Method) -> list[float | None]:
        self._sort_in()
        if not self._count:
            return [None] * len(percents)
        reached = np.cumsum(self._counts)
        return [self._percentile(percent, method, reached) for percent in percents]

    def _percentile(self, percent: float, method: Method, reached: NDArray[np.int64]) -> float:
        if not 0 <= percent <= 100:
            raise ValueError(f"{percent} is no percentage from 0 to 100")
        if method == "inverted_cdf":
            return self._at(max(math.ceil(percent / 100 * self._count), 1) - 1, reached)
        rank = percent / 100 * (self._count - 1)
        place = min(math.floor(rank), self._count - 1)
        below, part = self._at(place, reached), rank - place
        above = self._at(place + 1, reached) if part > 0 else below
        return below + (above - below) * part

    def _sort_in(self) -> None:
        if self._pending:
            values = np.array(self._pending)
            self._pending = array("d")
            self._count_in(values, None)
        if self._heavy:
            values, weights = np.array(self._heavy), np.array(self._weights)
            self._heavy, self._weights = array("d"), array("q")
            self._count_in(values, weights)

    def _count_in(self, values: NDArray[np.float64], weights: NDArray[np.int64] | None) -> None:
        least, most = float(values.min()), float(values.max())
        if not 0.0 <= least <= most < math.inf:
            raise ValueError(f"values from {least} to {most} are no durations")
        buckets = (values.view(np.int64) >> self._shift) - self._offset + 1
        np.clip(buckets, 0, self._last, out=buckets)
        self._cover(int(buckets.min()), int(buckets.max()))
        np.add.at(self._counts, buckets - self._first, 1 if weights is None else weights)
        if weights is None:
            self._note(len(values), float(values.sum()), least, most)
        else:
            self._note(int(weights.sum()), float(values @ weights), least, most)

    def _note(self, count: int, total: float, least: float, most: float) -> None:
        self._count += count
        self._sum += total
        self._min = min(self._min, least)
        self._max = max(self._max, most)

    def _cover(self, low: int, high: int) -> None:
        """Makes room for these buckets and those between, a whole octave at a time."""
        octave = 1 << self.bits
        begin, end = low // octave * octave, (high // octave + 1) * octave
        if len(self._counts):
            begin = min(begin, self._first)
            end = max(end, self._first + len(self._counts))
        if end - begin > len(self._counts):
            counts = np.zeros(end - begin, np.int64)
            at = self._first - begin if len(self._counts) else 0
            counts[at : at + len(self._counts)] = self._counts
            self._first, self._counts = begin, counts

    def _at(self, place: int, reached: NDArray[np.int64]) -> float:
        """The value in this place, from 0, of all in order."""
        if place <= 0:
            return self._min
        if place >= self._count - 1:
            return self._max
        bucket = int(np.searchsorted(reached, place, side="right")) + self._first
        lower, upper = self._bounds(np.array([bucket, bucket + 1]))
        return min(max(float(lower + upper) / 2, self._min), self._max)

    def _bounds(self, buckets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Each bucket's lower bound."""
        lower: NDArray[np.float64] = ((buckets - 1 + self._offset) << self._shift).view(np.float64)
        return np.where(buckets > 0, lower, 0.0)
