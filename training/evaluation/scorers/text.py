"""Answers against references as text: equal, alike in their words, or of a pattern."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.engines import Answer
from training.evaluation.metrics import Item, Metric, mean_metric

_WORDS = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class PerAnswer:
    """The mean of one figure between 0 and 1 for each answer.

    score: from the reference and the answer. binary: whether it is 0 or 1.
    """

    name: str
    score: Callable[[str, str], float]
    binary: bool

    def metrics(self, items: Sequence[Item], answers: Sequence[Answer]) -> list[Metric]:
        """One metric, of the scorer's name."""
        pairs = zip(items, answers, strict=True)
        values = [self.score(item.reference, answer.text) for item, answer in pairs]
        found = np.array(values, dtype=np.float64)
        return [mean_metric(self.name, "higher", found, binary=self.binary, bounds=(0, 1))]

    def metric_names(self) -> list[str]:
        """The scorer's own name."""
        return [self.name]


def exact_match(reference: str, answer: str) -> float:
    """1 where both are the same but for white space."""
    return float(reference.split() == answer.split())


def token_f1(reference: str, answer: str) -> float:
    """F1 of the words and punctuation marks that both hold, case and order aside.

    Two texts without any are alike.
    """
    expected, found = _counted(reference), _counted(answer)
    number = expected.total() + found.total()
    return 2 * (expected & found).total() / number if number else 1.0


def matches(pattern: re.Pattern[str]) -> Callable[[str, str], float]:
    """1 where the pattern is found anywhere in the answer; `^` and `$` bind it to its ends."""

    def score(_reference: str, answer: str) -> float:
        return float(pattern.search(answer) is not None)

    return score


def _counted(text: str) -> Counter[str]:
    return Counter(_WORDS.findall(text.casefold()))
