"""Evaluations with the figures that a test of gates needs."""

import numpy as np
from numpy.typing import ArrayLike

from training.evaluation.metrics import Better, Metric, mean_metric
from training.evaluation.results import Comparison, Estimate, EvaluationResult, MetricResult
from training.evaluation.statistics import compare, estimate


def result_of(
    *metrics: MetricResult, live: bool = False, notes: tuple[str, ...] = ()
) -> EvaluationResult:
    """An evaluation of base and candidate, and of a live version."""
    subjects = {"base": "tiny", "candidate": "new"} | ({"live": "acme/a@1"} if live else {})
    return EvaluationResult(subjects=subjects, items={"test": 400}, metrics=metrics, notes=notes)


def metric_of(
    name: str,
    candidate: ArrayLike,
    base: ArrayLike,
    *,
    better: Better = "higher",
    binary: bool = True,
) -> MetricResult:
    """A metric of both, from each item's score."""

    def made(values: ArrayLike) -> Metric:
        return mean_metric(name, better, np.asarray(values, dtype=np.float64), binary=binary)

    one, other = made(candidate), made(base)
    return MetricResult(
        name=name,
        better=better,
        items=len(one.stats),
        of={"candidate": estimate(one), "base": estimate(other)},
        against={"base": compare(one, other)},
    )


def figures(
    name: str,
    items: int,
    difference: tuple[float, float, float],
    *,
    better: Better = "higher",
    detectable: float | None = 0.05,
    base: float = 0.5,
) -> MetricResult:
    """A metric with that difference (value, low, high) between candidate and base."""
    value = base + difference[0]
    return MetricResult(
        name=name,
        better=better,
        items=items,
        of={
            "candidate": Estimate(value=value, low=value - 0.1, high=value + 0.1),
            "base": Estimate(value=base, low=base - 0.1, high=base + 0.1),
        },
        against={
            "base": Comparison(
                difference=difference[0],
                low=difference[1],
                high=difference[2],
                p_value=0.5,
                detectable=detectable,
            )
        },
    )


def alone(name: str, items: int, value: float, low: float, high: float) -> MetricResult:
    """A metric of the candidate."""
    of = {"candidate": Estimate(value=value, low=low, high=high)}
    return MetricResult(name=name, better="higher", items=items, of=of)


def shares(right: int, items: int) -> list[float]:
    """So many items right, the rest wrong."""
    return [1.0] * right + [0.0] * (items - right)
