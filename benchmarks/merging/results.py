"""What one run of the merge benchmark found, and the claims on it; pure."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.merging.sides import OURS, PEFT_SIDES
from benchmarks.merging.watched import Used

CLAIM_GB, CLAIM_FLAT_GB = 4.0, (2.0, 8.0)
RSS_SHARE, WALL_SHARE, FLAT = 0.25, 0.6, 0.10
_SLACK = 0.01, 64 * 2**20
"""Of the output, and in bytes: journals, caches, blocks of the file system."""


@dataclass(frozen=True)
class Window:
    """One side in one round on a base of so many GB (10^9 bytes).

    sync_s: until the kernel had written what the side left behind in memory. out_bytes: the
    result's size on the disk.
    """

    round: int
    side: str
    size_gb: float
    used: Used
    sync_s: float
    out_bytes: int

    @property
    def on_disk_s(self) -> float:
        """Until the result is on the disk."""
        return self.used.seconds + self.sync_s

    @property
    def temporary_bytes(self) -> int:
        """The most that lay on the disk beside the result."""
        return max(0, self.used.peak_disk_bytes - self.out_bytes)


@dataclass(frozen=True)
class Errors:
    """How far a side's result is from the sum in float64.

    largest: by tensor, the absolute difference. mean: over all values that the adapter changes.
    off: the part of them that is not the nearest value of the output's type.
    """

    side: str
    size_gb: float
    largest: dict[str, float]
    mean: float
    off: float


@dataclass(frozen=True)
class Claim:
    """measured, held: empty and None where it was not measured."""

    claim: str
    measured: str
    held: bool | None

    def __str__(self) -> str:
        word = {True: "held", False: "**not held**", None: "not measured"}[self.held]
        return f"{word}: {self.claim}" + (f": {self.measured}" if self.measured else "")


@dataclass
class Results:
    """Filled in as the run goes on."""

    command: str
    at: str
    machine: dict[str, str]
    versions: dict[str, str]
    sizes: list[float]
    compared: float
    """The size at which the peers merge too."""
    shape: dict[str, Any] = field(default_factory=dict)
    """Of the compared base."""
    largest_bytes: int = 0
    """Of the base's largest tensor."""
    starts: list[Window] = field(default_factory=list)
    """A tiny base: what a side costs before it does anything."""
    windows: list[Window] = field(default_factory=list)
    errors: list[Errors] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    partial: bool = True

    def as_json(self) -> dict[str, Any]:
        """With the claims."""
        return asdict(self) | {"claims": [asdict(one) for one in claims(self)]}

    def of(self, side: str, size_gb: float | None = None) -> list[Window]:
        """The rounds of one side, at one size or at all."""
        return [w for w in self.windows if w.side == side and size_gb in (None, w.size_gb)]

    def median(self, side: str, size_gb: float, measure: Callable[[Window], float]) -> float | None:
        """Over the rounds."""
        found = [measure(window) for window in self.of(side, size_gb)]
        return statistics.median(found) if found else None

    def ratios(self, peers: Sequence[str], measure: Callable[[Window], float]) -> list[float]:
        """Ours over the best of the peers, each within its round, at the compared size."""
        found = []
        for mine in self.of(OURS, self.compared):
            theirs = [
                measure(window)
                for peer in peers
                for window in self.of(peer, self.compared)
                if window.round == mine.round
            ]
            if theirs:
                found.append(measure(mine) / min(theirs))
        return found


def rss(window: Window) -> float:
    return window.used.peak_rss_bytes


def seconds(window: Window) -> float:
    return window.used.seconds


def on_disk_s(window: Window) -> float:
    return window.on_disk_s


def claims(results: Results) -> list[Claim]:
    """What was to be shown, and whether it held."""
    size, other = f"{results.compared:g} GB", ""
    if results.compared != CLAIM_GB:
        other = f" (the claim is for {CLAIM_GB:g} GB)"
    return [
        _share(
            results, f"{size}: peak memory at most {RSS_SHARE:g} of PEFT's{other}", rss, RSS_SHARE
        ),
        _share(
            results, f"{size}: time at most {WALL_SHARE:g} of PEFT's{other}", seconds, WALL_SHARE
        ),
        _share(
            results,
            f"{size}: the same until the result is on the disk, which PEFT does not wait for",
            on_disk_s,
            WALL_SHARE,
        ),
        _no_copy(results),
        _flat(results),
        _exact(results),
    ]


def _share(results: Results, claim: str, measure: Callable[[Window], float], most: float) -> Claim:
    found = results.ratios(PEFT_SIDES, measure)
    if not found:
        return Claim(claim, "", None)
    middle = statistics.median(found)
    spread = f"{middle:.3f} ({min(found):.3f} to {max(found):.3f}, {len(found)} rounds)"
    return Claim(claim, f"{spread}, against the better of PEFT's two", middle <= most)


def _no_copy(results: Results) -> Claim:
    claim = "no temporary copy: nothing beside the result on the disk, and it is written once"
    if not (mine := results.of(OURS)):
        return Claim(claim, "", None)
    beside = max(window.temporary_bytes for window in mine)
    written = max(window.used.written_bytes / window.out_bytes for window in mine)
    part, slack = _SLACK
    held = all(
        max(window.temporary_bytes, window.used.written_bytes - window.out_bytes)
        <= part * window.out_bytes + slack
        for window in mine
    )
    said = f"at most {beside / 2**20:.1f} MiB beside it, {written:.3f} times the result written"
    return Claim(claim, said, held)


def _flat(results: Results) -> Claim:
    low, high = min(results.sizes), max(results.sizes)
    claim = f"peak memory for {low:g} and {high:g} GB within {FLAT:.0%}"
    if (low, high) != CLAIM_FLAT_GB:
        claim += f" (the claim is for {CLAIM_FLAT_GB[0]:g} and {CLAIM_FLAT_GB[1]:g} GB)"
    small, large = results.median(OURS, low, rss), results.median(OURS, high, rss)
    if small is None or large is None or low == high:
        return Claim(claim, "", None)
    said = f"{small / 2**20:.0f} and {large / 2**20:.0f} MiB, {large / small - 1:+.1%}"
    return Claim(claim, said, max(small, large) / min(small, large) <= 1 + FLAT)


def _exact(results: Results) -> Claim:
    claim = "error against float64 no larger than PEFT's in any tensor"
    by_side = {errors.side: errors for errors in results.errors}
    theirs = [by_side[side] for side in PEFT_SIDES if side in by_side]
    mine = by_side.get(OURS)
    if mine is None or not theirs:
        return Claim(claim, "", None)
    best = {name: min(one.largest[name] for one in theirs) for name in mine.largest}
    worse = [name for name, error in mine.largest.items() if error > best[name]]
    less = sum(error < best[name] for name, error in mine.largest.items())
    mean = min(one.mean for one in theirs)
    said = (
        f"larger in {len(worse)} of {len(best)}, smaller in {less}; "
        f"mean {mine.mean:.4e} and {mean:.4e}"
    )
    return Claim(claim, said, not worse)
