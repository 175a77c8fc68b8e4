"""What one run of the testers' benchmark found, and the claims on it; pure."""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.sides.question import STREAM_TOKENS
from benchmarks.testing.figures import CLAIMED, OURS, SHOWN, Figures, Told
from benchmarks.testing.loads import Load

WITHIN, ROOM, TIMES = 0.05, 1.5, 3.0
LATE_S = 0.010
"""As the load test's own verdict has it, which asks it of the 99th percentile."""
HALF = 0.5
Standard = Literal["p99", "p50"]
STANDARDS: tuple[Standard, ...] = ("p99", "p50")
"""Which TTFT must be true: the 99th percentile's, as our own verdict asks, or the median's alone,
which lets a tester go on whose tail is long its own. Ours must satisfy its verdict in both."""


@dataclass(frozen=True)
class Agreed:
    """A side's run of the agreement's load in one round."""

    round: int
    side: str
    told: Told


@dataclass(frozen=True)
class Tried:
    """A rate that a side was given. wrong: why it does not count as held, by the standard; empty
    where it does."""

    round: int
    side: str
    load: Load
    told: Told
    wrong: dict[Standard, tuple[str, ...]]
    attempt: int = 0

    def held(self, standard: Standard) -> bool:
        return not self.wrong[standard]


@dataclass(frozen=True)
class Flooded:
    """A side's run in a closed loop against an engine that does not wait. cpu_s: its process's."""

    side: str
    users: int
    told: Told


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
    versions: dict[str, dict[str, str]]
    peers: list[str]
    loads: dict[str, str] = field(default_factory=dict)
    """What was asked, in words."""
    agreed: list[Agreed] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    flooded: list[Flooded] = field(default_factory=list)
    engine_tokens_per_s: list[float] = field(default_factory=list)
    """What wrk reads of the engine where nothing waits; before and after the sides."""
    notes: list[str] = field(default_factory=list)
    partial: bool = True

    def as_json(self) -> dict[str, Any]:
        """With the claims."""
        return asdict(self) | {"claims": [asdict(one) for one in claims(self)]}

    def told(self, side: str) -> dict[int, Told]:
        """By round, of the agreement."""
        return {one.round: one.told for one in self.agreed if one.side == side}

    def pairs(self, peer: str, name: str) -> list[tuple[float, float, float]]:
        """A figure by our definition, ours by the peer's, and the peer's, of each round."""
        ours, theirs = self.told(OURS), self.told(peer)
        found = []
        for number in sorted(ours.keys() & theirs.keys()):
            mine, by_peer = ours[number].figures, ours[number].by(peer)
            said = theirs[number].figures
            if name in by_peer and said.get(name):
                found.append((mine.get(name, float("nan")), by_peer[name], said[name]))
        return found

    def ratio(self, peer: str, name: str) -> float | None:
        """Ours by the peer's definition over the peer's: the median over the rounds."""
        found = [ours / theirs for _, ours, theirs in self.pairs(peer, name)]
        return statistics.median(found) if found else None

    def sustained(self, side: str, standard: Standard) -> list[float]:
        """The most tokens a second that the side held, of each round that has one."""
        by_round: dict[int, float] = {}
        for one in self.tried:
            if one.side == side and one.held(standard):
                by_round[one.round] = max(by_round.get(one.round, 0.0), one.load.offered)
        return list(by_round.values())

    def rates(self, number: int, side: str, standard: Standard) -> list[tuple[float, bool]]:
        """What the side was given in a round: each rate, and whether it held in one attempt."""
        held: dict[float, bool] = {}
        for one in self.tried:
            if (one.round, one.side) == (number, side) and one.load.rate is not None:
                held[one.load.rate] = held.get(one.load.rate, False) or one.held(standard)
        return list(held.items())

    def far_from_best(self, side: str, standard: Standard, rates: list[tuple[float, bool]]) -> bool:
        """Whether a peer missed a rate of not half of what another sustains: it is not the best
        peer, and where exactly it ends need not be known."""
        missed = min((rate for rate, held in rates if not held), default=None)
        if missed is None or side == OURS:
            return False
        others = [self.middle(peer, standard) for peer in self.peers if peer != side]
        best = max((most for most in others if most is not None), default=0.0)
        return missed * STREAM_TOKENS < HALF * best

    def middle(self, side: str, standard: Standard) -> float | None:
        found = self.sustained(side, standard)
        return statistics.median(found) if found else None


def wrong(
    told: Told, load: Load, truth: Figures, latency_s: float, step_s: float = 0.0
) -> dict[Standard, tuple[str, ...]]:
    """Why a run at a rate does not count as sustained; the same for every side, and for ours its
    own verdict besides. truth: the side's own figures where nothing presses it, which take the
    place of the truth. latency_s: how long a stream takes. step_s: how long the engine takes to
    write a token to each of the streams that run at this rate: a new one's first is the last of
    them, so that it is truly so much later than where nothing presses.
    """
    found = list(told.bound)
    if told.ok < load.requests:
        found.append(f"{load.requests - told.ok} requests failed")
    if load.rate is not None:
        due = load.requests / (load.requests / load.rate + latency_s)
        if told.figures["requests/s"] < (1 - WITHIN) * due:
            found.append(f"{told.figures['requests/s']:.0f} requests/s of {due:.0f}")
    off = told.figures["ITL mean"] / truth["ITL mean"] - 1
    if abs(off) > WITHIN:
        found.append(f"its mean ITL is off by {off:+.0%}")
    median = _too_long("TTFT p50", told.figures, truth, step_s)
    tail = _too_long("TTFT p99", told.figures, truth, step_s)
    return {"p50": (*found, *median), "p99": (*found, *median, *tail)}


def _too_long(name: str, figures: Figures, truth: Figures, step_s: float) -> tuple[str, ...]:
    late_s = figures[name] - truth[name] - step_s
    return (f"its {name} is {late_s * 1e3:.0f} ms too long",) if late_s > LATE_S else ()


def claims(results: Results) -> list[Claim]:
    """What was to be shown, and whether it held."""
    return [
        *(_agrees(results, peer) for peer in results.peers),
        _room(results),
        *(_faster(results, standard) for standard in STANDARDS),
    ]


def _agrees(results: Results, peer: str) -> Claim:
    claim = f"TTFT, ITL, TPOT, E2E and throughput within {WITHIN:.0%} of {peer}'s"
    ratios = {name: results.ratio(peer, name) for name in CLAIMED}
    found = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    if not found:
        return Claim(claim, "", None)
    worst = max(found, key=lambda name: abs(found[name] - 1))
    said = f"of {len(found)} figures the furthest is {worst}, {found[worst] - 1:+.2%}"
    return Claim(claim, said, abs(found[worst] - 1) <= WITHIN)


def best_peer(results: Results, standard: Standard) -> tuple[str, float] | None:
    """The peer that sustains most, and how much."""
    found = {peer: results.middle(peer, standard) for peer in results.peers}
    known = {peer: most for peer, most in found.items() if most is not None}
    return max(known.items(), key=lambda one: one[1]) if known else None


def _room(results: Results) -> Claim:
    claim = f"the engine is at least {ROOM:g} times as fast as the best peer"
    best, ours = best_peer(results, "p50"), results.middle(OURS, "p50")
    if best is None or not results.engine_tokens_per_s:
        return Claim(claim, "", None)
    engine = min(results.engine_tokens_per_s)
    said = f"{engine:,.0f} tokens/s, {engine / best[1]:.2f} times {best[0]}'s {best[1]:,.0f}"
    if ours is not None:
        said += f" and {engine / ours:.2f} times ours"
    return Claim(claim, said, engine >= ROOM * best[1])


def _faster(results: Results, standard: Standard) -> Claim:
    by = {
        "p99": "with a true TTFT at the 99th percentile",
        "p50": "with a true TTFT at the median, whatever a peer's tail",
    }[standard]
    claim = (
        f"at least {TIMES:g} times the streamed tokens a second of the best peer before the tester "
        f"is bound, {by}"
    )
    best, ours = best_peer(results, standard), results.middle(OURS, standard)
    if best is None or ours is None:
        return Claim(claim, "", None)
    said = f"{ours:,.0f} and {best[1]:,.0f} ({best[0]}), {ours / best[1]:.2f} times"
    return Claim(claim, said, ours >= TIMES * best[1])


def shown_figures(results: Results, peer: str) -> Iterable[str]:
    """Those that both sides tell."""
    return [name for name in (*CLAIMED, *SHOWN) if results.pairs(peer, name)]
