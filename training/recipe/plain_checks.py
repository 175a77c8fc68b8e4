"""What can be said of a recipe without looking at a row's tokens: errors and warnings. Pure."""

import math
from collections.abc import Iterator

from adapters_registry.base_model import BaseModelSpec
from training.data.rows import Kind
from training.recipe.recipe import Recipe
from training.recipe.targets import target_problems

SERVED_RANK = 16
"""What `loraplex serve` takes unless it is told otherwise."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of vLLM's --max-lora-rank."""

_FEW_STEPS = 10
_USUAL_RATES = {"lora": (2e-5, 3e-3), "dpo": (1e-7, 2e-4)}
_USUAL_SCALES = (0.25, 8.0)


def plain_problems(
    recipe: Recipe, kind: Kind, rows: int, spec: BaseModelSpec, num_processes: int
) -> Iterator[str]:
    """Why the run cannot start, each with the fix. rows: to train on."""
    if recipe.method == "dpo" and kind != "preference":
        yield (
            "method: dpo learns from preferences, and data.train holds chats; give rows with"
            " prompt, chosen and rejected, or set method to lora"
        )
    if recipe.method != "dpo" and kind == "preference":
        yield (
            f"method: {recipe.method} learns from chats, and data.train holds preferences; set"
            " method to dpo"
        )
    if rows == 0:
        yield "data.train: no rows are left to train on; lower data.validation and data.test"
    if recipe.schedule.batch_size < num_processes:
        yield (
            f"schedule.batch_size: {recipe.schedule.batch_size} rows cannot be shared by"
            f" {num_processes} processes; raise it, or lower --num-processes"
        )
    yield from target_problems(recipe.adapter.target_modules, spec)


def plain_warnings(recipe: Recipe, rows: int) -> Iterator[str]:
    """What will work and is unlikely to be meant."""
    if recipe.method == "dora":
        yield (
            "method: vLLM does not serve DoRA: the adapter can only be merged into the base, and"
            " no gate can be decided; train with lora to serve it"
        )
    yield from _schedule_warnings(recipe, rows)
    yield from _adapter_warnings(recipe)


def _schedule_warnings(recipe: Recipe, rows: int) -> Iterator[str]:
    schedule = recipe.schedule
    if schedule.batch_size > rows:
        yield (
            f"schedule.batch_size: {schedule.batch_size} is more than the {rows} rows, so that a"
            " step takes all of them"
        )
    steps = schedule.epochs * math.ceil(rows / schedule.batch_size)
    if steps < _FEW_STEPS:
        yield (
            f"schedule.epochs: the whole run has {steps} steps, too few to learn much; lower"
            " schedule.batch_size, or give more rows or epochs"
        )
    low, high = _USUAL_RATES["dpo" if recipe.method == "dpo" else "lora"]
    if not low <= schedule.learning_rate <= high:
        fate = "diverges or forgets" if schedule.learning_rate > high else "learns next to nothing"
        yield (
            f"schedule.learning_rate: {schedule.learning_rate:g} is far outside the usual"
            f" {low:g} to {high:g}; such a run often {fate}"
        )


def _adapter_warnings(recipe: Recipe) -> Iterator[str]:
    adapter = recipe.adapter
    root = math.sqrt if recipe.method == "rslora" else float
    scale = adapter.alpha / root(adapter.rank)
    low, high = _USUAL_SCALES
    if not low <= scale <= high:
        yield (
            f"adapter.alpha: {adapter.alpha} at rank {adapter.rank} scales updates by {scale:.2g},"
            f" far outside the usual {low:g} to {high:g}"
        )
    if adapter.rank > SERVED_RANK and recipe.method != "dora":
        needed = next(rank for rank in RANKS if rank >= adapter.rank)
        yield (
            f"adapter.rank: {adapter.rank} is served only by a gateway that was started with"
            f" --max-lora-rank {needed} or more (its default is {SERVED_RANK})"
        )
