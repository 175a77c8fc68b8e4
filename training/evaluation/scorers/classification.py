"""Answers that are classes: accuracy, and precision, recall and F1 as the mean of all classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.engines import Answer
from training.evaluation.metrics import Floats, Item, Metric, mean_metric

_PARTS = ("accuracy", "precision", "recall", "f1")


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer's text is the class, white space and case aside.

    The classes are those of the references: an answer that is none of them is wrong for its
    item's class, and speaks against no other. A class that is never answered has a precision of 0.
    """

    name: str = "classification"

    def metrics(self, items: Sequence[Item], answers: Sequence[Answer]) -> list[Metric]:
        """`classification.accuracy` and macro precision, recall and F1."""
        expected = [_class_of(item.reference) for item in items]
        found = [_class_of(answer.text) for answer in answers]
        right = np.array([one == other for one, other in zip(expected, found, strict=True)], float)
        stats = _counts(expected, found)
        accuracy = mean_metric(f"{self.name}.accuracy", "higher", right, binary=True)
        macro = {"precision": macro_precision, "recall": macro_recall, "f1": macro_f1}
        return [
            accuracy,
            *(
                Metric(f"{self.name}.{part}", "higher", stats, value_of, bounds=(0, 1))
                for part, value_of in macro.items()
            ),
        ]

    def metric_names(self) -> list[str]:
        """`classification.` accuracy, precision, recall and f1."""
        return [f"{self.name}.{part}" for part in _PARTS]


def macro_precision(sums: Floats) -> Floats:
    """From sums (..., 3 x classes): right answers, answers and items of each class."""
    right, answered, items = _by_class(sums)
    return _mean_of_classes(right, answered, items)


def macro_recall(sums: Floats) -> Floats:
    """From sums (..., 3 x classes): right answers, answers and items of each class."""
    right, _, items = _by_class(sums)
    return _mean_of_classes(right, items, items)


def macro_f1(sums: Floats) -> Floats:
    """From sums (..., 3 x classes): right answers, answers and items of each class."""
    right, answered, items = _by_class(sums)
    return _mean_of_classes(2 * right, answered + items, items)


def _class_of(text: str) -> str:
    return " ".join(text.split()).casefold()


def _counts(expected: Sequence[str], found: Sequence[str]) -> Floats:
    """(items, 3 x classes): right answers, answers and items of each class."""
    place = {name: index for index, name in enumerate(sorted(set(expected)))}
    stats = np.zeros((len(expected), 3, len(place)))
    for row, (truth, answer) in enumerate(zip(expected, found, strict=True)):
        stats[row, 2, place[truth]] = 1
        if answer in place:
            stats[row, 1, place[answer]] = 1
            stats[row, 0, place[answer]] = answer == truth
    return stats.reshape(len(expected), -1)


def _by_class(sums: Floats) -> tuple[Floats, Floats, Floats]:
    parts = sums.reshape(*sums.shape[:-1], 3, -1)
    return parts[..., 0, :], parts[..., 1, :], parts[..., 2, :]


def _mean_of_classes(above: Floats, below: Floats, items: Floats) -> Floats:
    """The mean over the classes that have items; NaN where there is none."""
    each = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    number = (items > 0).sum(axis=-1)
    total, nothing = each.sum(axis=-1), np.full(number.shape, np.nan)
    mean: Floats = np.divide(total, number, out=nothing, where=number > 0)
    return mean
