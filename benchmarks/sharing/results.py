"""What fairness.py found, and what of it was claimed; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from loadtest.samples import Sample
from loadtest.statistics.figures import Summary

OURS, FIFO = "loraplex", "direct"
NOISY = "noisy"
MOST_SLOWER = 2.0
LEAST_THROUGHPUT = 0.95
PEERS_MARGIN = 1.1


@dataclass(frozen=True)
class Window:
    """One side, with or without the noisy tenant. Times in milliseconds; None: nothing came."""

    side: str
    noisy: bool
    requests_per_s: float
    """Answered, of all tenants."""
    victims_sent: int
    victims_failed: int
    victims_ttft_p50_ms: float | None
    victims_ttft_p95_ms: float | None
    noisy_sent: int
    noisy_failed: int
    noisy_ttft_p95_ms: float | None
    jain_good: float | None
    """Jain's index over the tenants' shares of requests within the objective."""
    answered_worst_over_best: float | None
    ttft_worst_over_best: float | None
    """By each tenant's p95; 1 is fair, more is worse."""
    errors: dict[str, int]
    tester_bound: bool


@dataclass
class Results:
    """Filled in as the run goes on."""

    at: str
    command: str
    machine: dict[str, str]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    """By side."""
    settings: dict[str, Any] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    partial: bool = True

    def as_json(self) -> dict[str, Any]:
        claimed = [{"claim": text, "held": held} for text, held in claims(self)]
        return asdict(self) | {"claims": claimed}


def window(
    side: str, samples: Sequence[Sample], summary: Summary, *, noisy: bool, bound: bool
) -> Window:
    """The figures of one window from its samples."""
    victims = [one for one in samples if one.tenant != NOISY]
    loud = [one for one in samples if one.tenant == NOISY]
    fairness = summary.fairness
    answered, slowest = fairness.answered, fairness.ttft_p95
    return Window(
        side=side,
        noisy=noisy,
        requests_per_s=summary.all.throughput.requests_per_s or 0.0,
        victims_sent=len(victims),
        victims_failed=_failed(victims),
        victims_ttft_p50_ms=_ttft_ms(victims, 50),
        victims_ttft_p95_ms=_ttft_ms(victims, 95),
        noisy_sent=len(loud),
        noisy_failed=_failed(loud),
        noisy_ttft_p95_ms=_ttft_ms(loud, 95),
        jain_good=fairness.jain_good,
        answered_worst_over_best=None if answered is None else answered.worst_over_best,
        ttft_worst_over_best=None if slowest is None else slowest.worst_over_best,
        errors=dict(summary.errors),
        tester_bound=bound,
    )


def _failed(samples: Sequence[Sample]) -> int:
    return sum(one.outcome != "ok" for one in samples)


def _ttft_ms(samples: Sequence[Sample], percent: float) -> float | None:
    """From the intended sending, of the answered."""
    found = [
        1e3 * (one.first_token_s - one.intended_s)
        for one in samples
        if one.first_token_s is not None and one.outcome == "ok"
    ]
    return float(np.percentile(found, percent)) if found else None


def find(windows: Sequence[Window], side: str, *, noisy: bool) -> Window | None:
    return next((one for one in windows if (one.side, one.noisy) == (side, noisy)), None)


def slower(windows: Sequence[Window], side: str) -> float | None:
    """The victims' TTFT p95 beside the noisy tenant over that without it."""
    loud, quiet = find(windows, side, noisy=True), find(windows, side, noisy=False)
    if loud is None or quiet is None:
        return None
    if loud.victims_ttft_p95_ms is None or not quiet.victims_ttft_p95_ms:
        return None
    return loud.victims_ttft_p95_ms / quiet.victims_ttft_p95_ms


def claims(results: Results) -> list[tuple[str, bool]]:
    """Of what was measured so far."""
    windows = results.windows
    ours, fifo = find(windows, OURS, noisy=True), find(windows, FIFO, noisy=True)
    found = []
    if (times := slower(windows, OURS)) is not None:
        text = f"beside a noisy tenant the others' TTFT p95 is at most {MOST_SLOWER:g} times theirs"
        found.append((f"{text} without it: {times:.1f} times", times <= MOST_SLOWER))
    if ours is None:
        return found
    text = "no request of a tenant that keeps to its share is refused"
    found.append(
        (f"{text}: {ours.victims_failed} of {ours.victims_sent} were", not ours.victims_failed)
    )
    if fifo is not None and fifo.requests_per_s:
        share = ours.requests_per_s / fifo.requests_per_s
        text = (
            f"the engine answers at least {LEAST_THROUGHPUT:.0%} of what it does first come first"
        )
        found.append((f"{text} served: {share:.0%}", share >= LEAST_THROUGHPUT))
    return found + _beside_peers(windows, ours)


def _beside_peers(windows: Sequence[Window], ours: Window) -> list[tuple[str, bool]]:
    found = []
    for peer in windows:
        p95_ms = peer.victims_ttft_p95_ms
        if not peer.noisy or peer.side in (OURS, FIFO) or ours.victims_ttft_p95_ms is None:
            continue
        if p95_ms is not None:
            times = ours.victims_ttft_p95_ms / p95_ms
            text = (
                f"the others' TTFT p95 is at most {PEERS_MARGIN} times that behind {peer.side},"
                f" and no more of them are refused: {times:.2f} times, {ours.victims_failed} and"
                f" {peer.victims_failed}"
            )
            # Who refuses has the shorter queue: latency of the answered alone would flatter it.
            fewer = ours.victims_failed <= peer.victims_failed
            found.append((text, times <= PEERS_MARGIN and fewer))
    return found


def capacity(settings: Mapping[str, Any]) -> float:
    """Requests a second that the engine's places carry."""
    more: int = settings["answer_tokens"] - 1
    seconds: float = (settings["first_token_ms"] + more * settings["token_ms"]) / 1e3
    return float(settings["places"]) / seconds
