"""The run over time: a cell a second, wider ones as a run grows long."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.samples import Sample
from loadtest.statistics.histogram import COARSE_BITS, Histogram
from loadtest.statistics.latencies import latencies

MOST_CELLS = 600
"""Then two cells become one: 10 minutes by the second, 20 by two seconds, and so on."""

_APART = ("ok", "cancelled")
"""How requests end that have not failed; what a stop cut off is neither answered nor failed."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What happened in a stretch of time, of all phases; None where there is no value."""

    begin_s: float
    seconds: float
    """Its length, which the rates are counted by; the run may end within the last cell."""
    arrivals_per_s: float
    """Requests that should have been sent."""
    ok_per_s: float
    failed_per_s: float
    """Without what was cut off when the run was stopped."""
    output_tokens_per_s: float
    """As they came; of all answers, failed ones too."""
    in_flight: int
    """Sent and not ended, at the cell's end."""
    ttft_p50_s: float | None
    """Of requests that should have been sent in this cell; buckets 3 % wide."""
    ttft_p95_s: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """What was counted so far, of all phases."""

    ok: int
    failed: int
    output_tokens: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some cells together."""

    seconds: float
    arrivals: int
    ok: int
    """Answers that ended in it."""
    in_flight_at_begin: int
    in_flight_at_end: int


class Timeline:
    """Adds samples in any order; memory is bounded by the number of cells."""

    def __init__(self, most_cells: int = MOST_CELLS) -> None:
        if most_cells < 2 or most_cells % 2:
            raise ValueError(f"{most_cells} cells: give an even number from 2")
        self.width_s = 1.0
        self.end_s = 0.0
        self._most = most_cells
        self._counts = {
            name: np.zeros(most_cells)
            for name in ("arrivals", "sent", "ok", "failed", "cancelled", "tokens")
        }
        self._ttft: list[Histogram | None] = [None] * most_cells

    def add(self, sample: Sample) -> None:
        self._reach(max(sample.intended_s, sample.ended_s or 0.0))
        counts, begin = self._counts, self._cell(sample.intended_s)
        counts["arrivals"][begin] += 1
        if sample.sent_s is not None:
            counts["sent"][self._cell(sample.sent_s)] += 1
        how = sample.outcome if sample.outcome in _APART else "failed"
        if sample.ended_s is not None and sample.sent_s is not None:
            counts[how][self._cell(sample.ended_s)] += 1
        elif sample.sent_s is None:
            # It was never in flight: sent and ended at once.
            counts["sent"][begin] += 1
            counts[how][begin] += 1
        self._add_tokens(sample)
        ttft_s = latencies(sample).ttft_s
        if ttft_s is not None:
            self._ttft_at(begin).add(ttft_s)

    def merge(self, other: "Timeline") -> None:
        """Adds another process's cells of the same run. `other` may become coarser."""
        if other._most != self._most:
            raise ValueError(f"{other._most} cells do not go into {self._most}")
        while self.width_s < other.width_s:
            self._coarsen()
        while other.width_s < self.width_s:
            other._coarsen()
        self.end_s = max(self.end_s, other.end_s)
        for name, counts in other._counts.items():
            self._counts[name] += counts
        for place, histogram in enumerate(other._ttft):
            if histogram is not None:
                self._ttft_at(place).merge(histogram)

    def stretch(self, begin_s: float, end_s: float) -> Stretch:
        """What happened between two times, each taken as the begin of its cell; both within the
        run."""
        begin, end = self._cell(begin_s), min(self._cell(end_s), self._most - 1)
        in_flight = self._in_flight()
        return Stretch(
            seconds=(end - begin) * self.width_s,
            arrivals=int(self._counts["arrivals"][begin:end].sum()),
            ok=int(self._counts["ok"][begin:end].sum()),
            in_flight_at_begin=int(in_flight[begin - 1]) if begin else 0,
            in_flight_at_end=int(in_flight[end - 1]) if end else 0,
        )

    def totals(self) -> Totals:
        ok, failed, tokens = (self._counts[name].sum() for name in ("ok", "failed", "tokens"))
        return Totals(int(ok), int(failed), float(tokens))

    def cells(self) -> list[Cell]:
        """From the run's begin to its end; empty before the first sample."""
        if not self._counts["arrivals"].any():
            return []
        return self._cells(0, self._cell(self.end_s) + 1)

    def lately(self, now_s: float, most: int) -> list[Cell]:
        """Of a run that goes on: at most so many cells, the last that are over by then."""
        over = min(self._cell(now_s), self._most)
        return self._cells(max(over - most, 0), over)

    def _cells(self, begin: int, end: int) -> list[Cell]:
        in_flight = self._in_flight()
        return [self._told(place, int(in_flight[place])) for place in range(begin, end)]

    def _in_flight(self) -> NDArray[np.float64]:
        """At each cell's end."""
        ended = sum(self._counts[name] for name in ("failed", *_APART))
        return np.cumsum(self._counts["sent"] - ended)

    def _told(self, place: int, in_flight: int) -> Cell:
        seconds, ttft = self.width_s, self._ttft[place]
        rate = {name: float(counts[place]) / seconds for name, counts in self._counts.items()}
        return Cell(
            begin_s=place * seconds,
            seconds=seconds,
            arrivals_per_s=rate["arrivals"],
            ok_per_s=rate["ok"],
            failed_per_s=rate["failed"],
            output_tokens_per_s=rate["tokens"],
            in_flight=in_flight,
            ttft_p50_s=ttft.percentile(50) if ttft else None,
            ttft_p95_s=ttft.percentile(95) if ttft else None,
        )

    def _add_tokens(self, sample: Sample) -> None:
        tokens = sample.events if sample.output_tokens is None else sample.output_tokens
        if not tokens:
            return
        first = sample.first_token_s
        if first is None:
            if sample.ended_s is not None:
                self._counts["tokens"][self._cell(sample.ended_s)] += tokens
            return
        times = np.empty(len(sample.gaps) + 1)
        times[0] = first
        np.cumsum(sample.gaps, out=times[1:])
        times[1:] += first
        self._reach(float(times[-1]))
        cells: NDArray[np.intp] = (times / self.width_s).astype(np.intp)
        np.add.at(self._counts["tokens"], cells, tokens / len(times))

    def _ttft_at(self, place: int) -> Histogram:
        histogram = self._ttft[place]
        if histogram is None:
            histogram = self._ttft[place] = Histogram(COARSE_BITS)
        return histogram

    def _cell(self, at_s: float) -> int:
        return int(at_s / self.width_s)

    def _reach(self, at_s: float) -> None:
        self.end_s = max(self.end_s, at_s)
        while self._cell(at_s) >= self._most:
            self._coarsen()

    def _coarsen(self) -> None:
        """Two cells become one."""
        self.width_s *= 2
        half = self._most // 2
        for name, counts in self._counts.items():
            joined = counts.reshape(half, 2).sum(axis=1)
            self._counts[name] = np.concatenate([joined, np.zeros(half)])
        pairs = zip(self._ttft[::2], self._ttft[1::2], strict=True)
        self._ttft = [_joined(a, b) for a, b in pairs] + [None] * half


def _joined(a: Histogram | None, b: Histogram | None) -> Histogram | None:
    if a is None or b is None:
        return a or b
    a.merge(b)
    return a
