"""What the windows of several rounds come to: medians, paired ratios, which rounds count; pure."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.sides.window import Window

DIRECT = "direct"
ROOM = 1.5
"""The engine without a proxy must be so much faster than the fastest proxy."""

Item = TypeVar("Item")
Measure = Callable[[Window], float]


@dataclass(frozen=True)
class Summary:
    """The middle and the ends of some values."""

    median: float
    low: float
    high: float
    count: int


def summary(values: Iterable[float]) -> Summary | None:
    """None where there is nothing."""
    found = list(values)
    if not found:
        return None
    return Summary(statistics.median(found), min(found), max(found), len(found))


def turn(items: Sequence[Item], round_number: int) -> list[Item]:
    """The order of a round: each begins with the next one, so that none is always first."""
    start = round_number % len(items)
    return [*items[start:], *items[:start]]


def of(windows: Iterable[Window], scenario: str, side: str | None = None) -> list[Window]:
    """The windows of a scenario, of one side or of all."""
    return [w for w in windows if w.scenario == scenario and side in (None, w.side)]


def room(windows: Iterable[Window], scenario: str) -> dict[int, float]:
    """By round: how much faster the engine alone was than the fastest proxy, in requests."""
    by_round: dict[int, dict[str, float]] = {}
    for window in of(windows, scenario):
        by_round.setdefault(window.round, {})[window.side] = window.requests_per_s
    found = {}
    for number, rates in by_round.items():
        proxies = [rate for side, rate in rates.items() if side != DIRECT and rate]
        if DIRECT in rates and proxies:
            found[number] = rates[DIRECT] / max(proxies)
    return found


def counting_rounds(windows: Iterable[Window], scenario: str) -> set[int]:
    """The rounds in which throughput measured the proxies and not the engine or the load."""
    return {number for number, factor in room(windows, scenario).items() if factor >= ROOM}


def ratios(
    windows: Iterable[Window], scenario: str, side: str, peer: str, measure: Measure
) -> dict[int, float]:
    """By round: the side's value over the peer's of the same round, where both have one."""
    found = of(windows, scenario)
    mine = {w.round: measure(w) for w in found if w.side == side}
    theirs = {w.round: measure(w) for w in found if w.side == peer}
    return {number: value / theirs[number] for number, value in mine.items() if theirs.get(number)}


def errors(windows: Iterable[Window]) -> dict[str, int]:
    """All errors, by kind."""
    total: dict[str, int] = {}
    for window in windows:
        for kind, count in window.errors.items():
            total[kind] = total.get(kind, 0) + count
    return total
