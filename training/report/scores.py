"""The scores of a run as rows of the page's table, with where each dot and interval is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.evaluation.results import Comparison, Estimate, EvaluationResult, MetricResult

SUBJECTS = ("base", "live", "candidate")
_TINY_P = 0.001
_MARGIN = 0.05
_CENTRE = 50.0
_RATE_ENDS = (-1e-9, 1 + 1e-9)


@dataclass(frozen=True, slots=True)
class Dot:
    """One model's value on a row's axis; places in percent of its width."""

    subject: str
    text: str
    at: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Gap:
    """The candidate minus another model, and what can be said of it."""

    against: str
    text: str
    p_text: str
    detectable: str
    tone: str
    """`good`, `bad`, or `even` where the interval holds zero or no side is better."""
    at: float | None
    low: float | None
    high: float | None
    """In percent of the width; zero lies in the middle."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One metric."""

    name: str
    better: str
    items: int
    axis: tuple[str, str]
    dots: tuple[Dot, ...]
    gaps: tuple[Gap, ...]


def score_rows(result: EvaluationResult) -> list[ScoreRow]:
    """A row for each metric, in the evaluation's order."""
    return [_row(metric) for metric in result.metrics]


def number(value: float | None) -> str:
    """Three figures; a dash for what is not defined."""
    if value is None:
        return "-"
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{value:.2e}"


def _row(metric: MetricResult) -> ScoreRow:
    estimates = [(name, metric.of[name]) for name in SUBJECTS if name in metric.of]
    low, high = _domain([estimate for _, estimate in estimates])
    return ScoreRow(
        name=metric.name,
        better=metric.better,
        items=metric.items,
        axis=(number(low), number(high)),
        dots=tuple(_dot(name, estimate, low, high) for name, estimate in estimates),
        gaps=_gaps(metric),
    )


def _domain(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """From 0 to 1 where every value lies there; else what holds them all."""
    values = [v for e in estimates for v in (e.value, e.low, e.high) if v is not None]
    if not values or (min(values) >= _RATE_ENDS[0] and max(values) <= _RATE_ENDS[1]):
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = _MARGIN * (high - low) or 1.0
    return low - room, high + room


def _dot(subject: str, estimate: Estimate, low: float, high: float) -> Dot:
    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 2)

    text = number(estimate.value)
    if estimate.low is not None and estimate.high is not None:
        text += f" [{number(estimate.low)}, {number(estimate.high)}]"
    return Dot(subject, text, place(estimate.value), place(estimate.low), place(estimate.high))


def _gaps(metric: MetricResult) -> tuple[Gap, ...]:
    found = [(name, metric.against[name]) for name in SUBJECTS if name in metric.against]
    sizes = [abs(v) for _, c in found for v in (c.difference, c.low, c.high) if v is not None]
    reach = max(sizes, default=0.0) * (1 + _MARGIN) or 1.0
    return tuple(_gap(name, comparison, metric.better, reach) for name, comparison in found)


def _gap(name: str, comparison: Comparison, better: str, reach: float) -> Gap:
    def place(value: float | None) -> float | None:
        return None if value is None else round(_CENTRE + _CENTRE * value / reach, 2)

    low, high = comparison.low, comparison.high
    text = _signed(comparison.difference)
    if low is not None and high is not None:
        text += f" [{_signed(low)}, {_signed(high)}]"
    return Gap(
        against=name,
        text=text,
        p_text=_p_text(comparison.p_value),
        detectable=number(comparison.detectable),
        tone=_tone(low, high, better),
        at=place(comparison.difference),
        low=place(low),
        high=place(high),
    )


def _tone(low: float | None, high: float | None, better: str) -> str:
    if low is None or high is None or better == "neither" or low <= 0 <= high:
        return "even"
    return "good" if (low > 0) == (better == "higher") else "bad"


def _signed(value: float | None) -> str:
    return number(value) if value is None or value < 0 else f"+{number(value)}"


def _p_text(p_value: float | None) -> str:
    if p_value is None:
        return ""
    return f"p < {_TINY_P}" if p_value < _TINY_P else f"p = {p_value:.3f}"
