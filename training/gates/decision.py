"""Gates decided from an evaluation: pure, so the same report always gives the same verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from training.evaluation.results import EvaluationResult, MetricResult
from training.gates import rules, wording
from training.gates.gate import Gate, Other
from training.gates.rules import Outcome
from training.gates.scales import (
    AGAINST_BASE_ALREADY,
    MINIMUM_ITEMS,
    default_margin,
    items_for_limit,
    plain_name,
)

Verdict = Literal["passed", "rejected", "inconclusive"]


@dataclass(frozen=True, slots=True)
class GateResult:
    """How one gate came out for one metric, and why, in one sentence. gate: its text."""

    gate: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gates say of an adapter together."""

    verdict: Verdict
    reasons: tuple[GateResult, ...]


def decide(gates: Sequence[Gate], result: EvaluationResult) -> Decision:
    """Rejected where a gate fails, else inconclusive where one cannot tell, else passed.

    A gate with `*` is decided for every metric it covers, each with its own reason.
    """
    reasons = tuple(found for gate in gates for found in _results(gate, result))
    return Decision(verdict_of([found.outcome for found in reasons]), reasons)


def verdict_of(outcomes: Sequence[Outcome]) -> Verdict:
    """Of all gates' outcomes together; where nothing was asked, nothing is passed."""
    if "fail" in outcomes:
        return "rejected"
    if "inconclusive" in outcomes or not outcomes:
        return "inconclusive"
    return "passed"


def _results(gate: Gate, result: EvaluationResult) -> list[GateResult]:
    if gate.other is not None and gate.other not in result.subjects:
        return [_without(gate, gate.other)]
    covered = [m for m in result.metrics if gate.covers(m.name) and _applies(gate, m)]
    if not covered:
        return [GateResult(gate.text, "inconclusive", _not_measured(gate.metric, result))]
    return [GateResult(gate.text, *_decided(gate, metric, result)) for metric in covered]


def _without(gate: Gate, other: Other) -> GateResult:
    if other == "live":
        reason = "nothing is live yet, so there is nothing to compare with"
        return GateResult(gate.text, "pass", reason)
    return GateResult(gate.text, "inconclusive", f"{other} was not evaluated")


def _applies(gate: Gate, metric: MetricResult) -> bool:
    """A comparison needs a better direction, and a figure of each model of its own."""
    if gate.kind == "threshold":
        return True
    return metric.better != "neither" and plain_name(metric.name) not in AGAINST_BASE_ALREADY


def _decided(gate: Gate, metric: MetricResult, result: EvaluationResult) -> tuple[Outcome, str]:
    candidate = metric.of.get("candidate")
    if candidate is None or candidate.value is None:
        return "inconclusive", _not_measured(metric.name, result)
    if metric.items < MINIMUM_ITEMS:
        stands = f"{metric.name} is {wording.estimated(candidate)} on {wording.items(metric.items)}"
        return "inconclusive", f"{stands}; fewer than {MINIMUM_ITEMS} decide nothing"
    if gate.kind == "threshold":
        return _by_limit(gate, metric)
    return _by_comparison(gate, metric, result)


def _by_limit(gate: Gate, metric: MetricResult) -> tuple[Outcome, str]:
    assert gate.operator is not None
    assert gate.amount is not None
    at_least = gate.operator in (">", ">=")
    needed = items_for_limit(metric.name, gate.amount, at_least=at_least)
    outcome = rules.threshold(
        metric.of["candidate"], gate.operator, gate.amount, enough=metric.items >= needed
    )
    return outcome, wording.limit(outcome, metric, gate.operator, gate.amount, needed)


def _by_comparison(
    gate: Gate, metric: MetricResult, result: EvaluationResult
) -> tuple[Outcome, str]:
    assert gate.other is not None
    comparison = metric.against.get(gate.other)
    gain = None if comparison is None else rules.gain_of(metric, comparison)
    if comparison is None or gain is None:
        return "inconclusive", _not_measured(metric.name, result, of=f"against {gate.other}")
    if gate.kind == "improves":
        assert gate.amount is not None
        outcome = rules.improves(gain, gate.amount)
        return outcome, wording.improvement(outcome, gate, metric, comparison, gain)
    other = metric.of.get(gate.other)
    margin = gate.amount
    if margin is None:
        margin = default_margin(metric.name, None if other is None else other.value)
    outcome = rules.no_worse(gain, margin)
    return outcome, wording.non_inferiority(outcome, gate, metric, comparison, gain, margin)


def _not_measured(name: str, result: EvaluationResult, of: str = "") -> str:
    """With what the evaluation notes about it."""
    family = plain_name(name).partition(".")[0]
    notes = [note for note in result.notes if family in note]
    why = "; ".join(notes) or "the evaluation has no figure for it"
    return f"{name} could not be measured{of and f' {of}'}: {why}"
