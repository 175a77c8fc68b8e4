"""Metrics of several models together: each with its interval, the candidate against the rest."""

from collections.abc import Mapping, Sequence
from itertools import chain

from training.evaluation.metrics import Metric
from training.evaluation.results import MetricResult
from training.evaluation.statistics import compare, estimate

BASE, CANDIDATE, LIVE = "base", "candidate", "live"
"""The subjects' names."""


def by_name(of: Mapping[str, Sequence[Metric]], prefix: str = "") -> list[MetricResult]:
    """The metrics of a scorer, subject by subject, put together by their names."""
    each = {name: {metric.name: metric for metric in metrics} for name, metrics in of.items()}
    names = dict.fromkeys(chain.from_iterable(each.values()))
    return [
        metric_result(
            {subject: found[name] for subject, found in each.items() if name in found}, prefix
        )
        for name in names
    ]


def metric_result(of: Mapping[str, Metric], prefix: str = "") -> MetricResult:
    """One metric of every subject, the candidate's compared with the others'."""
    first = next(iter(of.values()))
    others = [name for name in of if name != CANDIDATE]
    return MetricResult(
        name=prefix + first.name,
        better=first.better,
        items=len(first.stats),
        of={name: estimate(metric) for name, metric in of.items()},
        against={name: compare(of[CANDIDATE], of[name]) for name in others if CANDIDATE in of},
    )
