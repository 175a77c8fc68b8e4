"""Items, answers and metrics for tests of what is made of them."""

from collections.abc import Sequence

import numpy as np

from training.evaluation.engines import Answer
from training.evaluation.metrics import Floats, Item, Metric
from training.evaluation.scorers import Scorer


def items_of(references: Sequence[str]) -> list[Item]:
    """One item a reference."""
    return [Item(str(i), f"prompt {i}", text) for i, text in enumerate(references)]


def answers_of(texts: Sequence[str]) -> list[Answer]:
    """Answers that ended by themselves; a token a word."""
    return [Answer(text, (), tuple(map(hash, text.split())), True) for text in texts]


def scored(scorer: Scorer, references: Sequence[str], texts: Sequence[str]) -> dict[str, Metric]:
    """The scorer's metrics by name."""
    found = scorer.metrics(items_of(references), answers_of(texts))
    return {metric.name: metric for metric in found}


def value_on(metric: Metric, rows: Sequence[int]) -> float:
    """The metric's value on those items, each as often as it is named."""
    weights: Floats = np.bincount(rows, minlength=len(metric.stats)).astype(np.float64)
    return float(metric.value_of(weights @ metric.stats))
