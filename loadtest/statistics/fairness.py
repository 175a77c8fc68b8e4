"""Fairness between tenants: Jain's index, and the worst off beside the best off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ends:
    """The worst and the best tenant by one figure."""

    worst: str
    best: str
    worst_over_best: float | None
    """The worst's value by the best's; 1 is fair. None where the best's is 0."""


@dataclass(frozen=True, slots=True)
class Fairness:
    """Over tenants that sent something; None where fewer than two have the figure.

    Fair where tenants ask for the same: of tenants who ask for different amounts only `answered`,
    `good` and `ttft` compare alike with alike.
    """

    tenants: int
    jain_tokens: float | None
    """Jain's index of output tokens."""
    jain_good: float | None
    """Jain's index of the share of requests within the objectives; None without objectives."""
    tokens: Ends | None
    answered: Ends | None
    """By the share of requests answered."""
    ttft_p95: Ends | None


@dataclass(frozen=True, slots=True)
class Served:
    """What one tenant got."""

    requests: int
    ok: int
    good_share: float | None
    output_tokens: int
    ttft_p95_s: float | None


def jain(values: Sequence[float]) -> float | None:
    """Jain's index: 1 where all are equal, 1/n where one has all; None for fewer than two.

    Of values that are all 0 it is 1: nobody has more than another.
    """
    if len(values) < 2:
        return None
    most = max(values)
    if most == 0:
        return 1.0
    scaled = [value / most for value in values]
    return sum(scaled) ** 2 / (len(scaled) * sum(value * value for value in scaled))


def fairness(by_tenant: Mapping[str, Served]) -> Fairness:
    asked = {name: served for name, served in by_tenant.items() if served.requests}
    tokens = {name: float(served.output_tokens) for name, served in asked.items()}
    good = [one.good_share for one in asked.values() if one.good_share is not None]
    waits = {
        name: served.ttft_p95_s for name, served in asked.items() if served.ttft_p95_s is not None
    }
    return Fairness(
        tenants=len(asked),
        jain_tokens=jain(list(tokens.values())),
        jain_good=jain(good),
        tokens=_ends(tokens, more_is_better=True),
        answered=_ends(
            {name: served.ok / served.requests for name, served in asked.items()},
            more_is_better=True,
        ),
        ttft_p95=_ends(waits, more_is_better=False),
    )


def _ends(values: Mapping[str, float], *, more_is_better: bool) -> Ends | None:
    if len(values) < 2:
        return None
    least = min(values, key=lambda name: values[name])
    most = max(values, key=lambda name: values[name])
    worst, best = (least, most) if more_is_better else (most, least)
    if values[worst] == values[best]:
        return Ends(worst, best, 1.0)
    return Ends(worst, best, values[worst] / values[best] if values[best] else None)
