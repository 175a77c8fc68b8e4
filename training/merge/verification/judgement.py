"""What was measured of a merge, and whether it holds. Pure.

The yardstick is the best merge there can be: base and adapter merged by PEFT in float32, each
weight rounded once to the type of the output. A good merge is as far from base+adapter as the best
one is, and much nearer to the best one: both round the same weights in the same way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

_MOST_ROUNDING = 2.0
"""A merge may be this many times as far from base+adapter as rounding and arithmetic are."""
_NEAR_ROUNDING = 0.25
"""Off the best merge by at most this part of what rounding does: only near ties may fall apart."""
_NEAR_ARITHMETIC = 4.0
_HIDDEN = 2.0


@dataclass(frozen=True, slots=True)
class Difference:
    """Between two models' logits. agreement: part of positions (0-1) with the same likeliest."""

    largest: float
    mean: float
    agreement: float

    @property
    def finite(self) -> bool:
        """False where a model gave NaN or Inf."""
        return isfinite(self.largest) and isfinite(self.mean)


@dataclass(frozen=True, slots=True)
class Measured:
    """How far models are from each other, over the same tokens.

    tokens: positions that were compared. merged, effect, rounding, arithmetic: from base+adapter to
    the merged model, to the base alone, to the best merge, and to the best merge without rounding.
    best: from the best merge to the merged model. dtype: what the weights are rounded to, as
    `bfloat16`. how: the way it was done, for people.
    """

    probes: int
    tokens: int
    merged: Difference
    effect: Difference
    rounding: Difference
    arithmetic: Difference
    best: Difference
    dtype: str
    how: str

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Measured":
        """As `dataclasses.asdict` gave it."""
        fields: dict[str, Any] = {
            name: Difference(**value) if isinstance(value, dict) else value
            for name, value in found.items()
        }
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of the check of a merge. Differences are of logits.

    tokens: positions that were compared. greedy_agreement: part of them (0-1) where merged model
    and base+adapter find the same token likeliest. effect: the largest logit difference of
    base+adapter from the base alone; rounding: the same of the best merge there can be.
    passed: False has a `problem`. how: what was done, for people. notes: what else to know.
    """

    probes: int
    tokens: int
    max_logit_diff: float
    mean_logit_diff: float
    greedy_agreement: float
    effect: float
    effect_mean: float
    effect_agreement: float
    rounding: float
    rounding_mean: float
    tolerance: float
    passed: bool
    how: str
    problem: str = ""
    notes: tuple[str, ...] = ()


def judge(measured: Measured, tolerance: float | None) -> Verification:
    """Whether the merge holds. tolerance: of the largest difference; None for the derived one."""
    derived = _MOST_ROUNDING * (measured.rounding.largest + measured.arithmetic.largest)
    allowed = derived if tolerance is None else tolerance
    problem = _problem(measured, allowed, given=tolerance is not None)
    return Verification(
        probes=measured.probes,
        tokens=measured.tokens,
        max_logit_diff=measured.merged.largest,
        mean_logit_diff=measured.merged.mean,
        greedy_agreement=measured.merged.agreement,
        effect=measured.effect.largest,
        effect_mean=measured.effect.mean,
        effect_agreement=measured.effect.agreement,
        rounding=measured.rounding.largest,
        rounding_mean=measured.rounding.mean,
        tolerance=allowed,
        passed=not problem,
        how=measured.how,
        problem=problem,
        notes=_notes(measured),
    )


def _problem(measured: Measured, allowed: float, *, given: bool) -> str:
    """Why the merge does not hold; empty where it does."""
    if not measured.merged.finite:
        return "the merged model, or base+adapter, gives NaN or Inf"
    if measured.merged.largest > allowed:
        source = "given" if given else f"twice what rounding to {measured.dtype} does"
        return (
            f"a logit of the merged model is {measured.merged.largest:.3g} off base+adapter's; "
            f"{allowed:.3g} is allowed ({source})"
        )
    if given:
        return _too_near_the_base(measured)
    if measured.best.mean > _near(measured):
        return (
            f"the merged model is off the adapter merged and rounded to {measured.dtype} by "
            f"{measured.best.mean:.3g} a logit on average; {_near(measured):.3g} is allowed"
        )
    return ""


def _too_near_the_base(measured: Measured) -> str:
    """A wide tolerance does not let an adapter through that was never applied."""
    if not _hidden(measured) and measured.merged.mean > measured.effect.mean / 2:
        return (
            f"the merged model is off base+adapter by {measured.merged.mean:.3g} a logit on "
            f"average, the base alone by {measured.effect.mean:.3g}: the adapter is not in it"
        )
    return ""


def _notes(measured: Measured) -> tuple[str, ...]:
    if not _hidden(measured):
        return ()
    return (
        f"the adapter changes a logit by {measured.effect.mean:.2g} on average on these probes, "
        f"rounding to {measured.dtype} by {measured.rounding.mean:.2g}: the merged weights hardly "
        "show it; write float32, or give probes that it was trained for",
    )


def _hidden(measured: Measured) -> bool:
    """Whether rounding moves logits about as much as the adapter does.

    So it is wherever an adapter that was not applied would pass.
    """
    noise = measured.rounding.mean + measured.arithmetic.mean
    return measured.effect.mean <= _HIDDEN * noise


def _near(measured: Measured) -> float:
    """How far off the best merge, on average, still is the best merge."""
    rounding, arithmetic = measured.rounding.mean, measured.arithmetic.mean
    return _NEAR_ROUNDING * rounding + _NEAR_ARITHMETIC * arithmetic
