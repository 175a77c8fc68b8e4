"""The report of a run as `report.json` keeps it, and the part of it that a registry keeps."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from training.data.report import DataReport
from training.evaluation.results import EvaluationResult

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_KEPT_FINDINGS = 20
_KEPT_CHARS = 500
_KEPT_METRICS = 100

Verdict = Literal["passed", "rejected", "inconclusive"]
Outcome = Literal["pass", "fail", "inconclusive"]


class GateOutcome(BaseModel):
    """One gate and why it came out so."""

    model_config = _FROZEN

    gate: str
    outcome: Outcome
    reason: str


class CurvePoint(BaseModel):
    """What was known of the run at one step."""

    model_config = _FROZEN

    step: int
    loss: float
    validation_loss: float | None = None
    learning_rate: float


class TrainingSummary(BaseModel):
    """How the adapter was made."""

    model_config = _FROZEN

    steps: int
    tokens: int
    """Of all rows seen, padding not counted."""
    tokens_per_s: float
    seconds: float
    """Spent in steps."""
    best_step: int
    """Whose weights the adapter has."""
    kept: str
    """Why that step, in words."""
    stopped_early: bool
    overfit: str | None
    """The alarm in words, if it was raised."""
    loss_unit: str = "nats a token"
    curve: tuple[CurvePoint, ...] = ()


class DataSummary(BaseModel):
    """What was learned from, and what judged it."""

    model_config = _FROZEN

    version: str
    """SHA-256 of the data set with its split."""
    rows: dict[str, int]
    """By part: train, validation, test."""
    replayed: int
    """Of the rows to train on, how many are generic instructions."""
    report: DataReport

    def compact(self) -> dict[str, Any]:
        """Without what its rows say."""
        findings = [
            {"code": one.code, "severity": one.severity, "message": one.message[:_KEPT_CHARS]}
            for one in self.report.findings[:_KEPT_FINDINGS]
        ]
        kept = {"version": self.version, "rows": self.rows, "replayed": self.replayed}
        return {**kept, "findings": findings}


class RunReport(BaseModel):
    """All that a run came to."""

    model_config = _FROZEN

    format: Literal[1] = 1
    run: str
    name: str
    """The recipe's file name without its ending."""
    verdict: Verdict
    gates: tuple[GateOutcome, ...]
    """As the recipe has them, before it ran."""
    warnings: tuple[str, ...] = ()
    started_at: str
    finished_at: str
    recipe: dict[str, JsonValue]
    """As it ran, with every default and `--set`."""
    command: str
    """That makes the same run again."""
    data: DataSummary
    training: TrainingSummary
    evaluation: EvaluationResult | None
    """None where the adapter cannot be served; otherwise without its examples."""
    lineage: dict[str, JsonValue]
    environment: dict[str, JsonValue] = Field(default_factory=dict)

    def compact(self) -> dict[str, Any]:
        """What a registry keeps of it: bounded, without rows or answers."""
        whole = self.model_dump(mode="json", include={"run", "name", "verdict", "gates"})
        whole["warnings"] = [text[:_KEPT_CHARS] for text in self.warnings[:_KEPT_FINDINGS]]
        whole["finished_at"] = self.finished_at
        whole["data"] = self.data.compact()
        whole["training"] = self.training.model_dump(mode="json", exclude={"curve"})
        if self.evaluation is not None:
            kept = self.evaluation.model_dump(mode="json", exclude={"examples", "metrics"})
            metrics = self.evaluation.metrics[:_KEPT_METRICS]
            whole["evaluation"] = {**kept, "metrics": [m.model_dump(mode="json") for m in metrics]}
        return whole
