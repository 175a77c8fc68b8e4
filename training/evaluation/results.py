"""What an evaluation found: the part of the report that gates decide from, as JSON keeps it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from training.evaluation.metrics import Better

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Estimate(BaseModel):
    """A metric of one model: its value, and the interval that holds it with 95 % confidence."""

    model_config = _FROZEN

    value: float | None
    """None where it is not defined, as a recall where nothing was to be found."""
    low: float | None
    high: float | None


class Comparison(BaseModel):
    """The candidate minus another model on the same items."""

    model_config = _FROZEN

    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    """Of no difference, two-sided: McNemar's exact test for right or wrong, else bootstrap."""
    detectable: float | None
    """The smallest difference that this many items would show (80 % power at 5 %)."""


class MetricResult(BaseModel):
    """One metric of every model."""

    model_config = _FROZEN

    name: str
    """As gates name it: `exact_match`, `json_fields.slots.f1`, `regression.exact_match`."""
    better: Better
    items: int
    of: dict[str, Estimate]
    """By subject: `base`, `candidate`, `live`."""
    against: dict[str, Comparison] = Field(default_factory=dict)
    """The candidate minus `base` and `live`."""


class Example(BaseModel):
    """One item and what each model answered to it."""

    model_config = _FROZEN

    id: str
    suite: Literal["test", "regression", "general"]
    prompt: str
    reference: str
    answers: dict[str, str]
    """By subject."""


class Agreement(BaseModel):
    """Whether the trainer's model and the serving engine's are the same, on sample prompts."""

    model_config = _FROZEN

    prompts: int
    same_tokens: bool
    """Whether template and tokenizer gave both the same prompt."""
    greedy_agreement: float
    """The part of greedy tokens, up to the first that differs, that are the same."""
    largest_difference: float
    """Of log-probabilities of the same tokens, in nats."""
    mean_difference: float
    notes: tuple[str, ...] = ()


class EvaluationResult(BaseModel):
    """All that was found."""

    model_config = _FROZEN

    subjects: dict[str, str]
    """What each subject is, in words: the base's name, the adapter's digest, the live label."""
    items: dict[str, int]
    """How many of each suite."""
    metrics: tuple[MetricResult, ...]
    examples: tuple[Example, ...] = ()
    """Every item; the report shows those where the models differ."""
    agreement: Agreement | None = None
    notes: tuple[str, ...] = ()
    """What was not measured, and why."""

    def metric(self, name: str) -> MetricResult | None:
        """The metric of that name."""
        return next((metric for metric in self.metrics if metric.name == name), None)
