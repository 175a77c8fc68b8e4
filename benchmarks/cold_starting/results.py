"""What cold_start.py found, and what of it was claimed; pure."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

GATEWAY, PLAIN = "gateway", "plain vLLM"
MOST = 1.2


@dataclass(frozen=True)
class Trial:
    """One adapter on one side: asked when it was not loaded, and again."""

    side: str
    rank: int
    size_bytes: int
    """Of its weights' file."""
    cold_ms: float
    """From the wish to ask until the first token; the load within it."""
    load_ms: float
    """The load's part: through the gateway what it says the request waited, with its check of the
    files; of plain vLLM the user's call."""
    warm_ms: float
    """Until the first token of the second answer."""
    told: tuple[bool, bool]
    """Whether the first and the second answer said that they were cold starts."""


@dataclass
class Results:
    """Filled in as the run goes on."""

    at: str
    command: str
    machine: dict[str, str]
    versions: dict[str, str]
    engine: dict[str, str] = field(default_factory=dict)
    """vLLM's flags."""
    trials: list[Trial] = field(default_factory=list)
    engine_load_ms: dict[int, float] = field(default_factory=dict)
    """By rank: the mean of what the gateway's own calls to load took, by its metrics."""
    notes: list[str] = field(default_factory=list)
    partial: bool = True

    def as_json(self) -> dict[str, Any]:
        claimed = [{"claim": text, "held": held} for text, held in claims(self)]
        return asdict(self) | {"claims": claimed}


def of(trials: Sequence[Trial], side: str, rank: int) -> list[Trial]:
    """In the order of their measuring."""
    return [one for one in trials if (one.side, one.rank) == (side, rank)]


def ranks(trials: Sequence[Trial]) -> list[int]:
    return sorted({one.rank for one in trials})


def median(trials: Sequence[Trial], get: Callable[[Trial], float]) -> float:
    return statistics.median(get(one) for one in trials)


def ratios(trials: Sequence[Trial], rank: int) -> list[float]:
    """Cold through the gateway over cold on plain vLLM, of the same adapter one after the other."""
    pairs = zip(of(trials, GATEWAY, rank), of(trials, PLAIN, rank), strict=False)
    return [ours.cold_ms / theirs.cold_ms for ours, theirs in pairs]


def claims(results: Results) -> list[tuple[str, bool]]:
    """Of what was measured so far."""
    trials = results.trials
    ours = [one for one in trials if one.side == GATEWAY]
    if not ours:
        return []
    right = sum(one.told == (True, False) for one in ours)
    found = [
        (
            f"every first answer says that it was a cold start, and no second one: {right} of"
            f" {len(ours)}",
            right == len(ours),
        )
    ]
    for rank in ranks(trials):
        if shares := ratios(trials, rank):
            share = statistics.median(shares)
            text = (
                f"rank {rank}: a cold start through the gateway takes at most {MOST} times a load"
                f" and a request on plain vLLM: {share:.2f}"
            )
            found.append((text, share <= MOST))
    return found
