"""What the losses say: the best step, when to stop, overfitting, divergence. Decisions alone."""

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from training.fitting.job import StepMetrics

FIRST_STEPS = 3
"""The start of a run: the learning rate is still small, so this is the loss of the base."""
LATE_STEPS = 5
RISEN_FACTOR, RISEN_BY = 1.5, 1.5
"""Diverged: the mean of the late steps is over the start's by both. A bad batch is not."""
WORSE_FACTOR, WORSE_BY = 1.08, 0.05
"""Overfit: the last validation loss is over the best by both, while the training loss fell."""
GAP_FACTOR, GAP_BY = 2.0, 0.5
"""Overfit: the validation loss is over the training loss by both."""


class Watch(BaseModel):
    """What a run has seen so far; kept in its checkpoints.

    looks: the validation losses by step. without_gain: looks since the best.
    """

    history: list[StepMetrics] = []
    looks: dict[int, float] = {}
    best_step: int | None = None
    without_gain: int = 0
    ended: Literal["no", "early"] = "no"

    def look(self, step: int, loss: float, patience: int | None) -> bool:
        """Notes a validation loss; whether it is the best so far. May end the run early."""
        self.looks[step] = loss
        if self.best_step is None or loss < self.looks[self.best_step]:
            self.best_step, self.without_gain = step, 0
            return True
        self.without_gain += 1
        if patience is not None and self.without_gain >= patience:
            self.ended = "early"
        return False

    @property
    def last_step(self) -> int:
        """How many steps were made."""
        return self.history[-1].step if self.history else 0


def kept(watch: Watch, planned_steps: int) -> str:
    """Which step's weights are kept, and why."""
    done = f"step {watch.best_step or watch.last_step} of {planned_steps}"
    if watch.best_step is None:
        return f"{done}, the last: there are no validation rows to find the best step by"
    loss = watch.looks[watch.best_step]
    said = f"{done}, where the validation loss was lowest ({loss:.3f})"
    if watch.ended == "early":
        return f"{said}; stopped at step {watch.last_step}: {watch.without_gain} looks without gain"
    return said


def diverged(history: Sequence[StepMetrics], learning_rate: float) -> str | None:
    """What to say and do when the run has lost its way; None while it is well."""
    last = history[-1]
    fix = (
        f"lower schedule.learning_rate (now {learning_rate:g}, try {learning_rate / 10:g}), or"
        " schedule.max_grad_norm"
    )
    if not (math.isfinite(last.loss) and math.isfinite(last.grad_norm)):
        return f"the training diverged: at step {last.step} the loss is no longer a number; {fix}"
    if len(history) < FIRST_STEPS + LATE_STEPS:
        return None
    start = _mean_loss(history[:FIRST_STEPS])
    now = _mean_loss(history[-LATE_STEPS:])
    if now <= max(RISEN_FACTOR * start, start + RISEN_BY):
        return None
    return (
        f"the training diverged: the loss rose from {start:.2f} at the start to {now:.2f} at step"
        f" {last.step}; {fix}"
    )


def overfit(watch: Watch) -> str | None:
    """The alarm, with its figures; None where the rows are learned and not learned by heart."""
    if watch.best_step is None or len(watch.looks) < 2:
        return None
    last_look = max(watch.looks)
    last, best = watch.looks[last_look], watch.looks[watch.best_step]
    now = _training_loss(watch, last_look)
    then = _training_loss(watch, watch.best_step)
    if last > max(WORSE_FACTOR * best, best + WORSE_BY) and now < then:
        return (
            f"overfit: the validation loss rose from {best:.2f} at step {watch.best_step} to"
            f" {last:.2f} at step {last_look}, while the training loss fell from {then:.2f} to"
            f" {now:.2f}; train for fewer epochs, or on more rows"
        )
    if last > max(GAP_FACTOR * now, now + GAP_BY):
        return (
            f"overfit: at step {last_look} the training loss is {now:.2f} and the validation loss"
            f" {last:.2f}: rows are learned by heart; give more rows, or train for fewer epochs"
        )
    return None


def _training_loss(watch: Watch, look: int) -> float:
    """The mean of the steps from the look before up to this one."""
    before = max((step for step in watch.looks if step < look), default=0)
    return _mean_loss([one for one in watch.history if before < one.step <= look])


def _mean_loss(steps: Sequence[StepMetrics]) -> float:
    return sum(one.loss for one in steps) / len(steps)
