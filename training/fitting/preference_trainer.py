"""TRL's DPO on our steps. Imported by a worker that has preferences to learn: it loads TRL."""

from typing import Any

import torch
from torch import nn
from trl.trainer.dpo_trainer import DPOTrainer

from training.fitting.steps import Batch
from training.fitting.trainer import StepTrainer


class PreferenceTrainer(StepTrainer, DPOTrainer):
    """Learns to prefer, by TRL's DPO; the reference is the base with the adapter off."""

    def batch_loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """The mean over the pairs."""
        inputs = self._prepare_inputs(batch.tensors)
        loss: torch.Tensor = super().compute_loss(model, inputs)  # type: ignore[no-untyped-call]
        return loss

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """The rows come encoded."""
        del args, kwargs
        return dataset
