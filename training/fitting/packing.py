"""Whether packed rows stay apart in the attention in use. Imported by a worker alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import nn

from training.encoding import Example
from training.errors import RecipeError
from training.fitting.steps import Batch
from training.fitting.tensors import Encoded, packed
from training.fitting.trainer import ChatTrainer, StepTrainer

_TOLERANCE = 1e-6


def check_packing(trainer: StepTrainer, train: Encoded) -> None:
    """Raises RecipeError where rows that are packed together would not be learned apart."""
    if not isinstance(trainer, ChatTrainer):
        raise RecipeError("schedule.batching: preference pairs are not packed; use grouped")
    shortest = min(cast("Sequence[Example]", train.examples), key=lambda one: len(one.input_ids))
    if not kept_apart(trainer, shortest):
        raise RecipeError(
            "schedule.batching: with this base's attention, packed rows see each other; use grouped"
        )


@torch.no_grad()
def kept_apart(trainer: ChatTrainer, row: Example) -> bool:
    """Whether what a row is packed behind leaves its loss as it is."""
    model = cast("nn.Module", trainer.model)
    model.eval()
    nothing = replace(row, labels=[-100] * len(row.labels))
    other = replace(nothing, input_ids=[*reversed(row.input_ids)])
    losses = [
        float(trainer.batch_loss(model, Batch(packed([first, row]), 1.0, 0)))
        for first in (nothing, other)
    ]
    return abs(losses[0] - losses[1]) < _TOLERANCE
