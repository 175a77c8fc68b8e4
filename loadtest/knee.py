"""The search for the knee: the highest rate at which enough requests keep the objectives.

Pure: `next_rate` looks at what was probed and says what to probe next, or that it is done and why.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

_SMALLEST_SHARE = 0.002
"""Shares are taken as this far from 0 and 1 at least, so that a line can be drawn between them."""

_CLEAR_PROBES = 2
_DOUBTFUL_PROBES = 3
_EXACT_REQUESTS = 1000
"""Probes of fewer leave the knee of a server with queues more than 5 % uncertain, and mostly too
high: a queue needs time to grow."""
_STRETCH_WITHIN = 1.15
"""Once the ends are this near in proportion, probes take twice as long: there noise decides."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of a run at one rate, its measured phase alone."""

    rate: float
    """Requests that should have been sent a second."""
    requests: int
    good: int
    """Those answered within the objectives."""
    served_per_s: float
    """Answers a second: beyond the knee about what the server can do."""
    sustained: bool = True
    """False where work piled up (`piles_up`): such a rate does not hold, whatever the objectives
    still say."""
    tester_bound: bool = False
    """The tester could not keep the rate, so that the probe tells nothing of the server."""

    @property
    def share(self) -> float:
        return self.good / self.requests if self.sustained else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search. Raises ValueError for bounds that leave nothing to search."""

    start: float = 1.0
    """The first rate; any will do, one near the knee saves probes."""
    lowest: float = 0.01
    highest: float = 100_000.0
    target: float = 0.95
    """The share of requests that must keep the objectives."""
    tolerance: float = 0.02
    """Done when the rate that holds and the one that does not are this near, in proportion."""
    most_probes: int = 24

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.start <= self.highest < math.inf:
            raise ValueError(
                f"start {self.start:g} does not lie from {self.lowest:g} to {self.highest:g}"
            )
        if not 0 < self.target < 1:
            raise ValueError(f"target share {self.target:g}: must lie between 0 and 1, as 95%")
        if not 0.005 <= self.tolerance <= 0.5:
            raise ValueError(f"tolerance {self.tolerance:g}: must lie from 0.5% to 50%")
        if self.most_probes < 1:
            raise ValueError("probes are 1 or more")


@dataclass(frozen=True, slots=True)
class Ask:
    """The next probe."""

    rate: float
    stretch: float
    """How many times as long as the first probes it should run."""


@dataclass(frozen=True, slots=True)
class Level:
    """All probes of one rate."""

    rate: float
    probes: int
    requests: int
    share: float
    """Of good requests: the median of the probes', so that one bad minute does not decide."""
    agreed: bool
    """Whether the probes all were on the same side of the target."""
    smoothed: float
    """The same, made to fall as the rate rises: what the search goes by."""
    served_per_s: float


@dataclass(frozen=True, slots=True)
class Knee:
    """The search's end."""

    rate: float | None
    """The highest rate that holds: where the share of good requests falls below the target. None
    where no rate held."""
    holds: float | None
    """The highest rate probed that held."""
    fails: float | None
    """The lowest rate probed above it, which did not; None where none failed."""
    found: bool
    """False where the search ended before it knew."""
    reason: str
    """Why it stopped, in a sentence."""
    probes: int


def next_rate(history: Sequence[Probe], plan: Plan) -> Ask | Knee:
    """What to probe next, or the knee.

    First it doubles or halves until one rate holds and a higher one fails, then it closes in, and
    at last probes both ends once more: noise that put an end on the wrong side shows and is
    searched again.
    """
    low, high = _sides(history, plan)
    spent = len(history) >= plan.most_probes
    if _is_bound(history) and (spent or _is_bound(history[:-1])):
        return _done(low, high, plan, history, "bound")
    if low is None and high is None and not spent:
        return Ask(history[-1].rate if history else plan.start, 1)
    ended = _ended(low, high, plan)
    if ended is not None:
        return _done(low, high, plan, history, ended)
    if spent:
        return _done(low, high, plan, history, "budget")
    near = low is not None and high is not None and high.rate / low.rate <= _STRETCH_WITHIN
    # A moment's disturbance can bind the tester: it ends the search only when it comes again.
    rate = history[-1].rate if _is_bound(history) else _next(low, high, plan)
    return Ask(rate, 2 if near else 1)


def broken_off(history: Sequence[Probe], plan: Plan, why: str) -> Knee:
    """What is known where the search has to end before it is done. why: for the reader."""
    return _done(*_sides(history, plan), plan, history, why)


def hopeless(bad: int, planned: float, target: float) -> bool:
    """Whether a probe may stop: of the requests it was to make, twice as many as may have missed
    the objectives already, so that it cannot hold whatever becomes of the rest."""
    return bad > 2 * (1 - target) * planned


def curve(history: Sequence[Probe], target: float) -> list[Level]:
    """The probes by rate, lowest first; those that were tester-bound are left out."""
    by_rate: dict[float, list[Probe]] = {}
    for probe in history:
        if probe.requests and not probe.tester_bound:
            by_rate.setdefault(probe.rate, []).append(probe)
    found = [(rate, by_rate[rate]) for rate in sorted(by_rate)]
    requests = [sum(probe.requests for probe in probes) for _, probes in found]
    shares = [[probe.share for probe in probes] for _, probes in found]
    middles = [median(of) for of in shares]
    smoothed = falling(middles, requests)
    return [
        Level(
            rate,
            len(probes),
            requests[place],
            middles[place],
            len({share >= target for share in shares[place]}) == 1,
            smoothed[place],
            fmean(probe.served_per_s for probe in probes),
        )
        for place, (rate, probes) in enumerate(found)
    ]


def falling(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest values that nowhere rise: neighbours that do are given their weighted mean."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] < pool[0]:
            mean, heavy, many = pools.pop()
            total = heavy + pool[1]
            pool = ((mean * heavy + pool[0] * pool[1]) / total, total, many + pool[2])
        pools.append(pool)
    return [value for value, _, many in pools for _ in range(many)]


def piles_up(arrivals: int, in_flight_at_begin: int, in_flight_at_end: int) -> bool:
    """Whether a server falls behind: of what came, more than 5 %, and more than chance would leave,
    was still there at the end."""
    growth = in_flight_at_end - in_flight_at_begin
    return growth > max(0.05 * arrivals, 3 * math.sqrt(arrivals))


def _sides(history: Sequence[Probe], plan: Plan) -> tuple[Level | None, Level | None]:
    """The highest rate that holds and the lowest that does not."""
    levels = curve(history, plan.target)
    low = max((level for level in levels if level.smoothed >= plan.target), default=None, key=_rate)
    high = min((level for level in levels if level.smoothed < plan.target), default=None, key=_rate)
    return low, high


def _is_bound(history: Sequence[Probe]) -> bool:
    return bool(history) and history[-1].tester_bound


def _rate(level: Level) -> float:
    return level.rate


def _ended(low: Level | None, high: Level | None, plan: Plan) -> str | None:
    """Why the search is over, if it is."""
    if high is None:
        return "highest" if low is not None and low.rate >= plan.highest else None
    if low is None:
        return "lowest" if high.rate <= plan.lowest else None
    near = high.rate / low.rate <= 1 + plan.tolerance
    return "found" if near and not _unsure(low, high, plan) else None


def _next(low: Level | None, high: Level | None, plan: Plan) -> float:
    if high is None:
        assert low is not None
        return min(_neat(low.rate * 2), plan.highest)
    if low is None:
        # What a server can do at most, it shows when it is asked for more.
        served = high.served_per_s * 0.9
        return max(_neat(served if 0 < served < high.rate / 2 else high.rate / 2), plan.lowest)
    if high.rate / low.rate <= 1 + plan.tolerance:
        return min(_unsure(low, high, plan), key=lambda level: level.probes).rate
    return _neat(_between(low, high))


def _unsure(low: Level, high: Level, plan: Plan) -> list[Level]:
    """The ends to probe again. Two probes are enough where they agree and leave the target far:
    where the share of bad requests is less than half, or more than one and a half times, of what it
    allows. Else noise may have put the end on the wrong side, and it takes three."""
    allowed = 1 - plan.target

    def needed(level: Level) -> int:
        close = abs(level.share - plan.target) < allowed / 2
        return _DOUBTFUL_PROBES if close or not level.agreed else _CLEAR_PROBES

    return [level for level in (low, high) if level.probes < needed(level)]


def _between(low: Level, high: Level) -> float:
    """Where the knee most likely is, but never so near an end that little is learned."""
    step = math.log(high.rate / low.rate)
    served = high.served_per_s
    if step > 0.25 and low.rate < served < high.rate:
        guess = math.log(served / low.rate) / step
    else:
        guess = 0.5
    return low.rate * math.exp(step * min(max(guess, 0.2), 0.8))


def _crossing(low: Level, high: Level, target: float) -> float:
    """The rate at which a line between both shares, as log odds, goes through the target."""
    above, below, aim = _odds(low.smoothed), _odds(high.smoothed), _odds(target)
    part = (above - aim) / (above - below) if above > below else 0.0
    return low.rate * math.pow(high.rate / low.rate, min(max(part, 0.0), 1.0))


def _odds(share: float) -> float:
    share = min(max(share, _SMALLEST_SHARE), 1 - _SMALLEST_SHARE)
    return math.log(share / (1 - share))


def _neat(rate: float) -> float:
    """Four digits: enough, and readable."""
    return float(f"{rate:.4g}")


def _done(
    low: Level | None, high: Level | None, plan: Plan, history: Sequence[Probe], why: str
) -> Knee:
    rate = None if low is None else low.rate
    if low is not None and high is not None and why == "found":
        rate = _neat(_crossing(low, high, plan.target))
    reason = " ".join(_reasons(low, high, plan, history, why))
    return Knee(
        rate,
        None if low is None else low.rate,
        None if high is None else high.rate,
        why == "found",
        reason,
        len(history),
    )


def _reasons(
    low: Level | None, high: Level | None, plan: Plan, history: Sequence[Probe], why: str
) -> Iterator[str]:
    held = "no rate held" if low is None else f"{low.rate:g} a second held"
    failed = "none failed" if high is None else f"{high.rate:g} did not"
    match why:
        case "found":
            yield f"{held} and {failed}, each probed more than once"
            few = min(level.requests // level.probes for level in (low, high) if level is not None)
            if few < _EXACT_REQUESTS:
                yield f"(probes of {few} requests: longer ones are more exact)"
        case "highest":
            yield f"{held}, the highest rate allowed; allow more to find the knee"
        case "lowest":
            yield f"{failed}, the lowest rate allowed: the objectives do not hold at any rate"
        case "bound":
            yield f"the tester itself could not keep {history[-1].rate:g} a second ({held});"
            yield "give it more processes or another machine"
        case "budget":
            yield f"{len(history)} probes were made, as many as allowed ({held}, {failed});"
            yield "allow more, or longer ones, which are less noisy"
        case _:
            yield f"{why} ({held}, {failed})"
