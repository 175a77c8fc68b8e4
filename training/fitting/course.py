"""Goes along with a run: notes each step, looks, ends it, asks for checkpoints, tells of it all."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch
from transformers import TrainerCallback

from training.errors import TrainingError
from training.fitting.job import METRICS, FitJob, StepMetrics, write_whole
from training.fitting.trainer import StepTrainer
from training.fitting.watch import Watch, diverged

WATCH = "watch.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """steps: of the whole run. looks: the steps after which the validation loss is looked at."""

    steps: int
    steps_per_epoch: int
    looks: frozenset[int]


class Course(TrainerCallback):
    """The run's course. Every process has one, and they decide alike."""

    def __init__(
        self,
        job: FitJob,
        plan: Plan,
        watch: Watch,
        stop: Event,
        say: Callable[..., None],
    ) -> None:
        self._job, self._plan, self.watch = job, plan, watch
        self._stop, self._say = stop, say
        self._metrics_file = job.folder / METRICS
        self._resumed_at = time.monotonic()
        self._before_s = watch.history[-1].elapsed_s if watch.history else 0.0
        self._saved_at = time.monotonic()
        self.interrupted = False
        self._trainer: StepTrainer | None = None
        self._main = False

    def begin(self, trainer: StepTrainer) -> None:
        """Before `train`: metrics of steps that are made again are forgotten."""
        self._trainer = trainer
        self._main = trainer.accelerator.is_main_process
        if self._main:
            lines = "".join(_line(one) for one in self.watch.history)
            write_whole(self._metrics_file, lines.encode())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Decides, in every process alike, what follows this step."""
        del args, kwargs
        stop, save = self._agree()
        control.should_evaluate = state.global_step in self._plan.looks
        control.should_save = save or stop
        if stop:
            self.interrupted = state.global_step < state.max_steps
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Notes the step. Raises TrainingError where the run has diverged."""
        del args
        logs = kwargs["logs"]
        if "grad_norm" not in logs:  # the trainer's own summary at the end
            return
        assert self._trainer is not None
        before = self.watch.history[-1].tokens if self.watch.history else 0
        made = StepMetrics(
            step=state.global_step,
            epoch=state.global_step / self._plan.steps_per_epoch,
            loss=self._trainer.step_loss,
            learning_rate=float(logs["learning_rate"]),
            grad_norm=float(logs["grad_norm"]),
            tokens=before + self._trainer.step_tokens,
            tokens_per_s=self._trainer.step_tokens / self._trainer.step_s,
            elapsed_s=self._elapsed_s(),
        )
        self.watch.history.append(made)
        if reason := diverged(self.watch.history, self._job.schedule.learning_rate):
            raise TrainingError(reason)
        if not control.should_evaluate:
            self._note(made)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Notes the validation loss, keeps the best weights, and may end the run early."""
        del args
        assert self._trainer is not None
        loss = float(kwargs["metrics"]["eval_loss"])
        seen = {"validation_loss": loss, "elapsed_s": self._elapsed_s()}
        made = self.watch.history[-1].model_copy(update=seen)
        self.watch.history[-1] = made
        if self.watch.look(state.global_step, loss, self._job.schedule.patience):
            self._trainer.best = self._trainer.trained()
        if self.watch.ended == "early":
            control.should_training_stop = True
            self.interrupted = False
        self._note(made)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Makes the checkpoint whole and puts it in place."""
        del args, control, kwargs
        assert self._trainer is not None
        checkpoints = self._trainer.checkpoints
        if self._main:
            watch = checkpoints.part(state.global_step) / WATCH
            watch.write_bytes(self.watch.model_dump_json().encode())
            checkpoints.put_in_place(state.global_step)
        self._trainer.accelerator.wait_for_everyone()
        self._saved_at = time.monotonic()

    def _left_s(self) -> float:
        """Seconds that the rest takes, if it goes on as since the start or the resume."""
        made = [one for one in self.watch.history if one.elapsed_s > self._before_s]
        if not made:
            return 0.0
        each = (self.watch.history[-1].elapsed_s - self._before_s) / len(made)
        return each * (self._plan.steps - self.watch.history[-1].step)

    def _agree(self) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and whether the first wants a checkpoint."""
        assert self._trainer is not None
        due = time.monotonic() - self._saved_at >= self._job.schedule.checkpoint_every_s
        mine = [self._stop.is_set(), self._main and due]
        if self._trainer.accelerator.num_processes == 1:
            return mine[0], mine[1]
        flags = torch.tensor(mine, dtype=torch.int64, device=self._trainer.args.device)
        summed = self._trainer.accelerator.reduce(flags, "sum")
        return bool(summed[0]), bool(summed[1])

    def _note(self, made: StepMetrics) -> None:
        if self._main:
            with self._metrics_file.open("a", encoding="utf-8") as file:
                file.write(_line(made))
            self._say(step=made.model_dump(), left_s=self._left_s(), steps=self._plan.steps)

    def _elapsed_s(self) -> float:
        return self._before_s + time.monotonic() - self._resumed_at


def read_watch(checkpoint: Path) -> Watch:
    """What the run had seen at a checkpoint."""
    return Watch.model_validate_json((checkpoint / WATCH).read_bytes())


def _line(made: StepMetrics) -> str:
    return json.dumps(made.model_dump()) + "\n"
