"""The steps of a run as batches, each with its share of the loss. Imported by a worker alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from training.fitting.plan import Cutting, MicroBatch, shares, step_rows
from training.fitting.tensors import Encoded, Tensors

Collate = Callable[[Sequence[int]], Tensors]
"""From the numbers of rows to their tensors."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro batch. part: its rows' part of what the step learns; 0 where it does not count."""

    tensors: Tensors
    part: float
    tokens: int
    """Without padding; 0 where it does not count."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one process does of a step."""

    batches: list[Batch]


class Steps(Dataset[Share]):
    """The process's shares of all steps, made when they are asked for."""

    def __init__(
        self, encoded: Encoded, collate: Collate, *, cutting: Cutting, process: int
    ) -> None:
        self._encoded, self._collate = encoded, collate
        self._cutting, self._process = cutting, process
        self._count, self._batch_size, self._seed = 0, 0, 0

    def planned(self, count: int, batch_size: int, seed: int) -> "Steps":
        """These steps: so many, of so many rows at most, drawn by that seed."""
        self._count, self._batch_size, self._seed = count, batch_size, seed
        return self

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, step: int) -> Share:
        rows = len(self._encoded.lengths)
        return self.share(step_rows(rows, self._batch_size, self._seed, step))

    def share(self, rows: Sequence[int]) -> Share:
        """The process's micro batches of `rows`."""
        weight = sum(self._encoded.learned[row] for row in rows)
        own = shares(rows, self._encoded.lengths, self._cutting)[self._process]
        return Share([self._batch(one, weight) for one in own])

    def all_rows(self) -> Share:
        """The process's micro batches of every row."""
        return self.share(range(len(self._encoded.lengths)))

    def loader(self) -> "DataLoader[Any]":
        """Step by step. It draws nothing from the global generator, which is for dropout alone."""
        return DataLoader(
            self, batch_size=1, collate_fn=_only, shuffle=False, generator=torch.Generator()
        )

    def _batch(self, batch: MicroBatch, weight: int) -> Batch:
        tensors = self._collate(batch.rows)
        if not batch.counts:
            return Batch(tensors, 0.0, 0)
        learned = sum(self._encoded.learned[row] for row in batch.rows)
        tokens = sum(self._encoded.lengths[row] for row in batch.rows)
        return Batch(tensors, learned / weight, tokens)


def _only(shares: Sequence[Share]) -> dict[str, Share]:
    """One; in a dict, since the trainer looks for labels in what it gets."""
    return {"share": shares[0]}
