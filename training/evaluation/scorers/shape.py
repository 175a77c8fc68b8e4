"""The form of answers, whatever they say: their length, and whether they go round in circles."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.engines import Answer
from training.evaluation.metrics import Item, Metric, mean_metric

_REPEATED_WORDS = 4


@dataclass(frozen=True, slots=True)
class Length:
    """How long answers are, in tokens and characters, and against their references."""

    name: str = "length"

    def metrics(self, items: Sequence[Item], answers: Sequence[Answer]) -> list[Metric]:
        """Mean tokens, mean characters, and characters for each one of the references."""
        characters = np.array([len(answer.text) for answer in answers], dtype=np.float64)
        references = np.array([len(item.reference) for item in items], dtype=np.float64)
        tokens = np.array([_tokens(answer) for answer in answers], dtype=np.float64)
        return [
            mean_metric(self.name, "neither", tokens),
            mean_metric(f"{self.name}.characters", "neither", characters),
            Metric(f"{self.name}.ratio", "neither", np.stack([characters, references], axis=1)),
        ]

    def metric_names(self) -> list[str]:
        """`length`, `length.characters` and `length.ratio`."""
        return [self.name, f"{self.name}.characters", f"{self.name}.ratio"]


@dataclass(frozen=True, slots=True)
class Repetition:
    """How much answers repeat themselves, and how many never came to an end."""

    name: str = "repetition"

    def metrics(self, items: Sequence[Item], answers: Sequence[Answer]) -> list[Metric]:
        """The mean share of repeated 4-grams, and the share of answers cut at the limit."""
        repeated = np.array([_repeated(answer) for answer in answers], dtype=np.float64)
        cut = np.array([not answer.stopped for answer in answers], dtype=np.float64)
        return [
            mean_metric(self.name, "lower", repeated, bounds=(0, 1)),
            mean_metric(f"{self.name}.unfinished", "lower", cut, binary=True),
        ]

    def metric_names(self) -> list[str]:
        """`repetition` and `repetition.unfinished`."""
        return [self.name, f"{self.name}.unfinished"]


def repeated_share(parts: Sequence[Hashable]) -> float:
    """The share of runs of four parts that came before; 0 for fewer than five parts."""
    runs = [tuple(parts[i : i + _REPEATED_WORDS]) for i in range(len(parts) - _REPEATED_WORDS + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _repeated(answer: Answer) -> float:
    """By tokens, which see a repeated letter too; by words where the engine gives no tokens."""
    return repeated_share(answer.token_ids or answer.text.split())


def _tokens(answer: Answer) -> float:
    return len(answer.token_ids) if answer.token_ids or not answer.text else np.nan
