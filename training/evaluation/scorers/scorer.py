"""What turns answers into metrics."""

from collections.abc import Sequence
from typing import Protocol

from training.evaluation.engines import Answer
from training.evaluation.metrics import Item, Metric


class Scorer(Protocol):
    """Holds answers against references. Pure: the same answers give the same metrics."""

    @property
    def name(self) -> str:
        """As recipes name it."""

    def metrics(self, items: Sequence[Item], answers: Sequence[Answer]) -> list[Metric]:
        """The figures of one model; answers[i] is its answer to items[i].

        Which metrics there are depends on the items alone, so those of two models can be paired.
        """

    def metric_names(self) -> list[str]:
        """The names it may give; `*` in a name stands for any characters."""
