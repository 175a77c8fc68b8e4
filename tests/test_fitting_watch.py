"""What losses say: the best step, the early end, the alarms, and when they stay silent."""

import math
from collections.abc import Sequence

import pytest

from training.fitting.job import StepMetrics
from training.fitting.watch import Watch, diverged, kept, overfit


def _step(step: int, loss: float, grad_norm: float = 1.0) -> StepMetrics:
    return StepMetrics(
        step=step,
        epoch=step / 10,
        loss=loss,
        learning_rate=1e-3,
        grad_norm=grad_norm,
        tokens=100 * step,
        tokens_per_s=100.0,
        elapsed_s=float(step),
    )


def _watch(
    training: Sequence[float], looks: dict[int, float], patience: int | None = None
) -> Watch:
    watch = Watch(history=[_step(i + 1, loss) for i, loss in enumerate(training)])
    for step, loss in looks.items():
        watch.look(step, loss, patience)
    return watch


def test_the_best_step_is_the_one_of_the_lowest_validation_loss() -> None:
    watch = _watch([2.0, 1.5, 1.2, 1.1], {2: 1.6, 3: 1.3, 4: 1.4})
    assert watch.best_step == 3
    assert kept(watch, 4) == "step 3 of 4, where the validation loss was lowest (1.300)"


def test_without_validation_rows_the_last_step_is_kept_and_said_to_be() -> None:
    assert kept(_watch([2.0, 1.5], {}), 2).startswith("step 2 of 2, the last: there are no")


def test_looks_without_gain_end_the_run_early() -> None:
    watch = _watch([2.0] * 8, {2: 1.5, 4: 1.6, 6: 1.4, 7: 1.5}, patience=2)
    before = watch.ended
    watch.look(8, 1.4, 2)
    assert (before, watch.ended) == ("no", "early")
    assert kept(watch, 20).endswith("stopped at step 8: 2 looks without gain")


def test_what_was_seen_survives_as_json() -> None:
    watch = _watch([2.0, 1.5], {1: 1.75, 2: 1.5})
    assert Watch.model_validate_json(watch.model_dump_json()) == watch


def test_a_validation_loss_that_rises_while_training_falls_raises_the_alarm() -> None:
    watch = _watch([2.0, 1.8, 1.4, 1.0, 0.8, 0.6], {2: 1.9, 4: 1.7, 6: 2.1})
    said = overfit(watch)
    assert said is not None
    assert "rose from 1.70 at step 4 to 2.10 at step 6" in said
    assert "fell from 1.20 to 0.70" in said


def test_a_training_loss_far_under_the_validation_loss_raises_the_alarm() -> None:
    said = overfit(_watch([3.0, 2.0, 1.0, 0.4, 0.1, 0.1], {2: 2.9, 4: 2.2, 6: 2.1}))
    assert said is not None
    assert "training loss is 0.10 and the validation loss 2.10" in said


@pytest.mark.parametrize(
    ("training", "looks"),
    [
        ([2.0, 1.5, 1.2, 1.0, 0.9, 0.9], {2: 1.6, 4: 1.2, 6: 1.1}),  # a good run
        ([2.0, 1.5, 1.2, 1.0, 0.9, 0.8], {2: 1.6, 4: 1.10, 6: 1.13}),  # a wobble
        ([2.0, 0.5, 0.2, 0.1, 0.05, 0.03], {2: 0.6, 4: 0.3, 6: 0.25}),  # well learned
        ([2.0, 1.9, 2.1, 2.2, 2.4, 2.5], {2: 2.0, 4: 2.1, 6: 2.6}),  # worse, and not by heart
        ([2.0, 0.1], {}),
    ],
)
def test_the_alarm_stays_silent(training: list[float], looks: dict[int, float]) -> None:
    assert overfit(_watch(training, looks)) is None


@pytest.mark.parametrize(
    ("loss", "grad_norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)]
)
def test_a_loss_that_is_no_number_is_told_at_once(loss: float, grad_norm: float) -> None:
    said = diverged([_step(1, loss, grad_norm)], 0.05)
    assert said is not None
    assert "at step 1 the loss is no longer a number" in said
    assert "schedule.learning_rate (now 0.05, try 0.005)" in said


def test_a_loss_that_rises_far_over_its_start_is_told() -> None:
    losses = [2.0, 2.1, 2.0, 3.0, 6.0, 8.0, 9.0, 9.0]
    said = diverged([_step(i + 1, loss) for i, loss in enumerate(losses)], 0.05)
    assert said is not None
    assert "rose from 2.03 at the start to 7.00 at step 8" in said


@pytest.mark.parametrize(
    "losses",
    [
        [2.0, 2.1, 2.0, 1.5, 1.2, 9.0, 1.1, 1.0],  # one bad batch
        [0.2, 0.1, 0.1, 0.3, 0.5, 0.4, 0.5, 0.6],  # little, and noisy
        [9.0, 9.0, 9.0],
    ],
)
def test_noise_is_no_divergence(losses: list[float]) -> None:
    assert diverged([_step(i + 1, loss) for i, loss in enumerate(losses)], 0.05) is None
