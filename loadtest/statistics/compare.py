"""Two runs side by side: how much each figure changed, and between which bounds.

The intervals hold for these two runs: what changes from run to run (another machine, another hour)
shows only in more runs. At 95 %, about one figure in twenty leaves its interval by chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loadtest.statistics.bootstrap import (
    Draws,
    Resampled,
    Values,
    draws_of,
    interval,
    quantiles,
    rate,
)
from loadtest.statistics.rows import OUTCOMES, PHASES, Table
from loadtest.statistics.units import StatisticsError

LEVEL = 0.95
RESAMPLES = 1000
FEWEST = 20
"""Requests; with fewer there is no interval."""
_FEWEST_IN_TAIL = 10

_STATISTICS: dict[str, float | None] = {"mean": None, "p50": 0.5, "p95": 0.95, "p99": 0.99}
_LATENCIES = ("ttft", "itl", "tpot", "e2e")

Direction = Literal["better", "worse", "unclear", "same"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run to compare. digest: of its schedule, None where it is not known. rows: those kept of
    `requests`, all phases."""

    name: str
    rows: Table
    requests: int
    digest: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure in both runs, in seconds, a share or a second.

    low, high: bounds of `b - a`, and of `change`, which is b / a - 1; None where there are too few
    requests, or a is 0.
    """

    figure: str
    a: float
    b: float
    low: float | None
    high: float | None
    change: float | None
    change_low: float | None
    change_high: float | None
    direction: Direction
    """Of b: better or worse where the interval leaves no change out."""
    requests: tuple[int, int]
    """That the figure comes from, in each run; where paired, the pairs twice."""


@dataclass(frozen=True, slots=True)
class Comparison:
    a: str
    b: str
    paired: bool
    why: str
    """A sentence: whether requests were paired, and why or why not."""
    level: float
    differences: list[Difference]
    """Figures that both runs have."""


@dataclass(frozen=True, slots=True)
class _Chance:
    """How intervals are made."""

    paired: bool
    seed: int
    resamples: int
    level: float

    def draws(self, series: list[Values]) -> list[Draws]:
        """For each side; the same for both where they are pairs."""
        if self.paired:
            return [draws_of(series[1] - series[0], self.resamples, [self.seed, 0])] * 2
        return [
            draws_of(values, self.resamples, [self.seed, side])
            for side, values in enumerate(series)
        ]


def compare(
    a: Run, b: Run, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Comparison:
    """b beside a; of the measured phases, without requests that the user cancelled. The same seed
    gives the same intervals.

    Requests are paired by their place in the schedule where both runs had the same one: then what
    a request asks for is the same on both sides and leaves the difference. Latencies are of
    answers, in pairs of requests that were answered in both runs, and of timeouts as far as they
    waited. Raises StatisticsError where a run has no measured request.
    """
    tables = [_measured(a), _measured(b)]
    paired, why = _pairing(a, b, tables)
    sides = _pairs(*tables) if paired else tables
    chance = _Chance(paired, seed, resamples, level)
    differences = [
        *_latencies(sides, chance),
        _errors(sides, chance),
        *_throughputs((a, b), tables, _Chance(False, seed, resamples, level)),
    ]
    return Comparison(a.name, b.name, paired, why, level, differences)


def _measured(run: Run) -> Table:
    measured = run.rows["phase"] == PHASES.index("measured")
    rows: Table = run.rows[measured & (run.rows["outcome"] != OUTCOMES.index("cancelled"))]
    if not len(rows):
        raise StatisticsError(f"{run.name}: has no measured request; run it for longer")
    ordered: Table = rows[np.argsort(rows["index"], kind="stable")]
    return ordered


def _pairing(a: Run, b: Run, tables: list[Table]) -> tuple[bool, str]:
    if a.digest is None or b.digest is None:
        return False, "not paired: a run does not tell its schedule's digest"
    if a.digest != b.digest:
        return False, "not paired: the runs had different schedules"
    common = len(np.intersect1d(tables[0]["index"], tables[1]["index"]))
    if common < FEWEST:
        return False, f"not paired: only {common} requests are in both runs"
    return True, f"paired: {common} requests of the same schedule are in both runs"


def _pairs(a: Table, b: Table) -> list[Table]:
    _, in_a, in_b = np.intersect1d(a["index"], b["index"], return_indices=True)
    return [a[in_a], b[in_b]]


def _latencies(sides: list[Table], chance: _Chance) -> Iterator[Difference]:
    for name in _LATENCIES:
        values = [np.asarray(side[f"{name}_s"], np.float64) for side in sides]
        there = [~np.isnan(one) for one in values]
        if chance.paired:
            there = [there[0] & there[1]] * 2
        kept = [one[held] for one, held in zip(values, there, strict=True)]
        if not all(len(one) for one in kept):
            continue
        told = [
            quantiles(one, draws, list(_STATISTICS.values()))
            for one, draws in zip(kept, chance.draws(kept), strict=True)
        ]
        for (statistic, share), a, b in zip(_STATISTICS.items(), *told, strict=True):
            yield _difference(f"{name}_{statistic}", a, b, chance.level, tail=1 - (share or 0))


def _errors(sides: list[Table], chance: _Chance) -> Difference:
    ok = OUTCOMES.index("ok")
    failed = [np.asarray(side["outcome"] != ok, np.float64) for side in sides]
    a, b = (
        quantiles(one, draws, [None])[0]
        for one, draws in zip(failed, chance.draws(failed), strict=True)
    )
    return _difference("errors", a, b, chance.level)


def _throughputs(
    runs: tuple[Run, Run], tables: list[Table], chance: _Chance
) -> Iterator[Difference]:
    """Answers and their tokens by the time they took; never paired, since time is the run's."""
    answered = [_answered(table) for table in tables]
    if not all(len(rows) for rows in answered):
        return
    seconds = [
        np.diff(rows["ended_s"], prepend=table["intended_s"].min())
        for rows, table in zip(answered, tables, strict=True)
    ]
    if not all(of.sum() > 0 for of in seconds):
        return
    draws = chance.draws(seconds)
    # A row stands for several requests where the rows are a sample of them.
    scales = [run.requests / len(run.rows) for run in runs]
    for figure in ("requests_per_s", "output_tokens_per_s"):
        a, b = (
            rate(_amounts(figure, answered[side]) * scales[side], seconds[side], draws[side])
            for side in (0, 1)
        )
        yield _difference(figure, a, b, chance.level, more_is_better=True)


def _answered(table: Table) -> Table:
    """Those with an answer, in the order of their ends."""
    ended = (table["outcome"] == OUTCOMES.index("ok")) & ~np.isnan(table["ended_s"])
    rows: Table = table[ended]
    ordered: Table = rows[np.argsort(rows["ended_s"], kind="stable")]
    return ordered


def _amounts(figure: str, rows: Table) -> Values:
    if figure == "requests_per_s":
        return np.ones(len(rows))
    tokens: Values = np.maximum(rows["output_tokens"], 0).astype(np.float64)
    return tokens


def _difference(
    figure: str,
    a: Resampled,
    b: Resampled,
    level: float,
    *,
    tail: float = 1.0,
    more_is_better: bool = False,
) -> Difference:
    """tail: the share of the requests that the figure hangs on."""
    off, change = b.value - a.value, b.value / a.value - 1 if a.value else None
    fewest, blocks = min(a.requests, b.requests), min(a.blocks, b.blocks)
    low = high = change_low = change_high = None
    enough = fewest >= FEWEST and fewest * tail >= _FEWEST_IN_TAIL
    if enough and np.isfinite(a.drawn).all() and np.isfinite(b.drawn).all():
        low, high = interval(off, b.drawn - a.drawn, level, blocks)
        if change is not None and np.all(a.drawn):
            change_low, change_high = interval(change, b.drawn / a.drawn - 1, level, blocks)
    return Difference(
        figure,
        a.value,
        b.value,
        low,
        high,
        change,
        change_low,
        change_high,
        _direction(low, high, more_is_better=more_is_better),
        (a.requests, b.requests),
    )


def _direction(low: float | None, high: float | None, *, more_is_better: bool) -> Direction:
    if low is None or high is None:
        return "unclear"
    if low == high == 0:
        return "same"
    if low <= 0 <= high:
        return "unclear"
    return "better" if (low > 0) == more_is_better else "worse"
