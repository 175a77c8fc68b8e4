"""When a gate is passed, failed or left open: numbers only, docs/gates.md gives the reasons."""

import math
from dataclasses import dataclass
from typing import Literal

from training.evaluation.results import Comparison, Estimate, MetricResult
from training.gates.gate import Operator

Outcome = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better the candidate is; below 0 where it is worse, whichever way the metric runs.

    detectable: the smallest difference that the items would show; None where none would.
    """

    difference: float
    low: float
    high: float
    detectable: float | None

    def could_show(self, amount: float) -> bool:
        """Whether so large a difference would have shown on these items."""
        return self.detectable is not None and self.detectable <= amount


def gain_of(metric: MetricResult, comparison: Comparison) -> Gain | None:
    """The comparison in the metric's better direction; None where it has no interval."""
    difference, low, high = comparison.difference, comparison.low, comparison.high
    if difference is None or low is None or high is None:
        return None
    if metric.better == "lower":
        return Gain(-difference, -high, -low, comparison.detectable)
    return Gain(difference, low, high, comparison.detectable)


def improves(gain: Gain, amount: float) -> Outcome:
    """Whether a gain of `amount` was shown, or would have shown and was not there."""
    if gain.difference >= amount:
        return "pass" if gain.low > 0 else "inconclusive"
    if gain.high < amount or gain.could_show(amount):
        return "fail"
    return "inconclusive"


def no_worse(gain: Gain, margin: float) -> Outcome:
    """Whether more than `margin` was lost, or would have shown and was not."""
    beyond_chance = gain.high < 0
    if gain.difference >= 0 or gain.low >= -margin:
        return "pass"
    if gain.difference < -margin:
        return "fail" if beyond_chance or gain.could_show(margin) else "inconclusive"
    return "pass" if gain.could_show(margin) and not beyond_chance else "inconclusive"


def within(value: float, operator: Operator, limit: float) -> bool:
    """Whether a value keeps a limit."""
    if operator in (">=", "<=") and value == limit:
        return True
    return value > limit if operator in (">", ">=") else value < limit


def threshold(found: Estimate, operator: Operator, limit: float, *, enough: bool) -> Outcome:
    """By the value where the items are enough for the limit; else where all of its interval agrees.

    found: with a value.
    """
    ends = [found.value] if enough else [found.low, found.high]
    known = [within(end, operator, limit) for end in ends if end is not None]
    if len(known) == len(ends) and all(known):
        return "pass"
    if len(known) == len(ends) and not any(known):
        return "fail"
    return "inconclusive"


def items_needed(items: int, detectable: float | None, amount: float) -> int | None:
    """About how many items would show a difference of `amount`, to two digits; None: unknown.

    What a set can show shrinks with the root of its size.
    """
    if detectable is None or amount <= 0:
        return None
    needed = max(items * (detectable / amount) ** 2, items * 1.1)
    unit = int(10 ** max(0, math.floor(math.log10(needed)) - 1))
    return math.ceil(needed / unit - 1e-9) * unit
