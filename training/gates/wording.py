"""Why a gate came out as it did, in one sentence with its figures."""

import math

from training.evaluation.results import Comparison, Estimate, MetricResult
from training.gates.gate import Gate, Operator
from training.gates.rules import Gain, Outcome, items_needed

_ASKED = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than"}


def improvement(
    outcome: Outcome, gate: Gate, metric: MetricResult, comparison: Comparison, gain: Gain
) -> str:
    """Of an `improves` gate."""
    assert gate.amount is not None
    assert gate.other is not None
    moved = _moved(metric, comparison, gate.other, gate.amount)
    asked = f"at least {figure(gate.amount)} was asked for"
    if outcome == "pass":
        return f"{metric.name} {moved}; {asked}"
    if outcome == "inconclusive":
        few = _too_few(metric.items, f"a gain of {figure(gate.amount)}", gate.amount, gain)
        return f"{metric.name} {moved}, {few}"
    missed = "does not improve enough" if gain.low > 0 else "does not improve"
    return f"{metric.name} {missed}: it {moved}; {asked}"


def non_inferiority(
    outcome: Outcome,
    gate: Gate,
    metric: MetricResult,
    comparison: Comparison,
    gain: Gain,
    margin: float,
) -> str:
    """Of a `no worse` gate."""
    assert gate.other is not None
    moved = _moved(metric, comparison, gate.other, margin)
    if outcome == "inconclusive":
        few = _too_few(metric.items, f"{figure(margin)} worse", margin, gain)
        return f"{metric.name} {moved}, {few}"
    tolerated = f"up to {figure(margin)} worse is tolerated"
    if outcome == "fail":
        return f"{metric.name} is worse than {gate.other}'s: it {moved}; {tolerated}"
    start = f"{metric.name} is no worse than {gate.other}'s: it {moved}"
    if gain.difference < 0:
        return f"{start}; {tolerated}"
    if gain.could_show(margin) or gain.low >= -margin or gain.detectable is None:
        return start
    return f"{start}; less than {figure(gain.detectable)} worse may not have shown"


def limit(
    outcome: Outcome, metric: MetricResult, operator: Operator, bound: float, needed: int
) -> str:
    """Of a threshold."""
    found = metric.of["candidate"]
    stands = f"{metric.name} is {estimated(found, bound)} on {items(metric.items)}"
    if outcome == "inconclusive":
        return f"{stands}, too few to decide on a limit of {figure(bound)}; {needed:,} would do"
    return f"{stands}; {_ASKED[operator]} {figure(bound)} was asked for"


def estimated(found: Estimate, bound: float | None = None) -> str:
    """A value with its interval."""
    assert found.value is not None
    value = figure(found.value, bound)
    if found.low is None or found.high is None:
        return value
    return f"{value} ({figure(found.low)} to {figure(found.high)})"


def items(number: int) -> str:
    """How many items."""
    return f"{number:,} item{'' if number == 1 else 's'}"


def figure(value: float, unlike: float | None = None) -> str:
    """A number as people read it; with more digits where it would look like `unlike` and is not."""
    size = abs(value)
    digits = 3 if size < 10 else 2 if size < 100 else 1
    if unlike is not None and value != unlike:
        while digits < 9 and round(value, digits) == round(unlike, digits):
            digits += 1
    whole, _, part = f"{value:,.{digits}f}".partition(".")
    text = f"{whole}.{part[:2]}{part[2:].rstrip('0')}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def _moved(metric: MetricResult, comparison: Comparison, other: str, amount: float) -> str:
    """`rose by 0.41 (0.36 to 0.46) over base, from 0.02 to 0.43, on 400 items`."""
    difference, low, high = comparison.difference, comparison.low, comparison.high
    assert difference is not None
    assert low is not None
    assert high is not None
    values, on = _values(metric, other, difference), f"on {items(metric.items)}"
    if difference == 0:
        return f"is the same as {other}'s ({figure(low)} to {figure(high)}){values} {on}"
    if difference > 0:
        by = f"{figure(difference, amount)} ({figure(low)} to {figure(high)})"
        return f"rose by {by} over {other}{values} {on}"
    by = f"{figure(-difference, amount)} ({figure(-high)} to {figure(-low)})"
    return f"fell by {by} from {other}{values} {on}"


def _values(metric: MetricResult, other: str, difference: float) -> str:
    """Both values, where the difference is theirs: a judge's is not, nor one of fewer items."""
    found = [metric.of.get(subject) for subject in (other, "candidate")]
    before, after = (None if one is None else one.value for one in found)
    if (
        before is None
        or after is None
        or not math.isclose(after - before, difference, abs_tol=1e-9)
    ):
        return ""
    if difference == 0:
        return f", both {figure(after)},"
    return f", from {figure(before)} to {figure(after)},"


def _too_few(number: int, what: str, amount: float, gain: Gain) -> str:
    needed = items_needed(number, gain.detectable, amount)
    would = "" if needed is None else f"; about {needed:,} would do"
    return f"too few to tell {what} from chance{would}"
