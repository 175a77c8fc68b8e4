"""Hugging Face's trainer, told to take our steps. Imported by a worker alone: it loads torch.

A batch of the trainer is one whole step of one process; its micro batches are run here. Chance is
seeded anew for each step, so what a step does depends on nothing but its number and the weights.
"""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer

from training.fitting.checkpoints import Checkpoints
from training.fitting.selected_logits import SelectedLogits
from training.fitting.steps import Batch, Share, Steps

TRAINED = "trained.safetensors"
BEST = "best.safetensors"

Weights = dict[str, torch.Tensor]


class StepTrainer(Trainer):
    """What both kinds share: steps, the validation loss, checkpoints.

    step_loss, step_tokens, step_s: of the last step, over all processes.
    """

    steps: Steps
    validation: Share | None
    checkpoints: Checkpoints
    selected: SelectedLogits
    step_loss: float
    step_tokens: int
    step_s: float
    best: Weights | None

    def set_up(
        self, steps: Steps, validation: Share | None, checkpoints: Checkpoints
    ) -> "StepTrainer":
        """Before `train`: what is learned, what is looked at, and where checkpoints go."""
        self.steps, self.validation, self.checkpoints = steps, validation, checkpoints
        self.step_loss, self.step_tokens, self.step_s = 0.0, 0, 0.0
        self.best = None
        return self

    def get_train_dataloader(self) -> "DataLoader[Any]":
        """The steps, already this process's share."""
        return self.steps.loader()

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        del inputs
        return 0

    def batch_loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """The mean over what the batch learns."""
        raise NotImplementedError

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """All micro batches of the step, forward and backward."""
        del num_items_in_batch
        started = time.perf_counter()
        model.train()
        self._seed_step()
        batches = cast("Share", inputs["share"]).batches
        processes = self.accelerator.num_processes
        loss = torch.zeros((), device=self.args.device)
        for i, batch in enumerate(batches):
            alone = i < len(batches) - 1
            with self.accelerator.no_sync(model) if alone else nullcontext():
                part = self.batch_loss(model, batch) * batch.part
                # Gradients are averaged over the processes, and the parts make a whole over them.
                self.accelerator.backward(part * processes)
            loss += part.detach().float()
        tokens = sum(batch.tokens for batch in batches)
        self.step_loss, self.step_tokens = self._over_processes(float(loss), tokens)
        self.step_s = time.perf_counter() - started
        return loss

    @torch.no_grad()
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The validation loss; the callbacks hear of it."""
        del args, kwargs
        assert self.validation is not None
        model = cast("nn.Module", self.model)
        model.eval()
        loss = sum(float(self.batch_loss(model, b)) * b.part for b in self.validation.batches)
        metrics = {"eval_loss": self._over_processes(loss, 0)[0]}
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def trained(self) -> Weights:
        """A copy of the weights that are trained."""
        model = cast("nn.Module", self.model)
        named = model.named_parameters()
        return {name: one.detach().cpu().clone() for name, one in named if one.requires_grad}

    def put_back(self, weights: Weights) -> None:
        """Sets the trained weights to what `trained` gave."""
        own = dict(cast("nn.Module", self.model).named_parameters())
        with torch.no_grad():
            for name, tensor in weights.items():
                own[name].copy_(tensor)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Of a checkpoint: the trained weights and the best so far, exactly as they are."""
        assert output_dir is not None
        folder = Path(output_dir)
        if self.accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(self.trained(), folder / TRAINED)
            if self.best is not None:
                save_file(self.best, folder / BEST)
        self.accelerator.wait_for_everyone()

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None for a checkpoint."""

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        del model
        folder = Path(resume_from_checkpoint)
        self.put_back(load_file(folder / TRAINED))
        self.best = load_file(folder / BEST) if (folder / BEST).exists() else None

    def _get_output_dir(self, trial: Any) -> str:
        del trial
        return str(self.checkpoints.making)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.accelerator.is_main_process:
            self.checkpoints.clear()
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()

    def _seed_step(self) -> None:
        at = [self.args.seed, self.state.global_step, self.accelerator.process_index]
        torch.manual_seed(int(np.random.SeedSequence(at).generate_state(1)[0]))

    def _over_processes(self, loss: float, tokens: int) -> tuple[float, int]:
        if self.accelerator.num_processes == 1:
            return loss, tokens
        mine = torch.tensor([loss, tokens], dtype=torch.float64, device=self.args.device)
        summed = self.accelerator.reduce(mine, "sum")
        return float(summed[0]), int(summed[1])


class ChatTrainer(StepTrainer):
    """Learns answers."""

    def batch_loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """The mean over the learned tokens."""
        return self.selected.mean_loss(model, self._prepare_inputs(batch.tensors))
