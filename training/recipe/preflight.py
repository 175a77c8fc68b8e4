"""Everything that can be checked before the first step, all reasons at once."""

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adapters_registry.base_model import BaseModelSpec
from training.data.rows import Row
from training.encoding import load_tokenizer
from training.errors import TrainingError
from training.recipe.encoded_rows import Encoded, PartRows, encoded_rows, stop_tokens
from training.recipe.machine_memory import MachineMemory, machine_memory
from training.recipe.memory import (
    ENOUGH_ON_A_CPU,
    MemoryEstimate,
    RunShape,
    estimate,
    gib,
    rows_at_once,
)
from training.recipe.plain_checks import plain_problems, plain_warnings
from training.recipe.recipe import Recipe
from training.recipe.targets import adapted_modules

if TYPE_CHECKING:
    from training.data.prepare import Prepared


@dataclass(frozen=True, slots=True)
class Preflight:
    """A run that may start. examples: the first rows, as the model sees them.

    longest_tokens: of any row to train on. memory: the estimate, for as many rows at once as
    memory.micro_batch_size says, which is what the run should take.
    """

    examples: tuple[Encoded, ...]
    longest_tokens: int
    warnings: tuple[str, ...]
    memory: MemoryEstimate


def check(
    recipe: Recipe,
    prepared: "Prepared",
    base: Path,
    spec: BaseModelSpec,
    *,
    num_processes: int = 1,
    machine: MachineMemory | None = None,
    trained: bool = False,
) -> Preflight:
    """Looks at recipe, rows, base and machine together.

    trained: whether the adapter is made already, so that no memory is needed for that. Raises
    TrainingError with every reason that the run cannot start, one a line.
    """
    rows = len(prepared.train)
    problems = [*plain_problems(recipe, prepared.kind, rows, spec, num_processes)]
    if recipe.method == "qlora" and importlib.util.find_spec("bitsandbytes") is None:
        problems.append("method: qlora needs bitsandbytes: pip install bitsandbytes")
    parts = _encoded(recipe, prepared, base)
    problems += [problem for part in parts for problem in part.problems()]
    problems += _too_long(parts, recipe, spec)
    if problems:
        raise TrainingError("\n".join(problems))
    machine = machine or machine_memory(num_processes)
    if trained:
        machine = replace(machine, free_bytes=sys.maxsize)
    memory, warnings = _memory(recipe, parts, _shape(recipe, prepared, base, spec), machine)
    return Preflight(
        examples=tuple(parts[0].samples),
        longest_tokens=parts[0].longest().tokens,
        warnings=(*plain_warnings(recipe, rows), *_cut_answers(parts, recipe), *warnings),
        memory=memory,
    )


def _encoded(recipe: Recipe, prepared: "Prepared", base: Path) -> list[PartRows]:
    """Train first, test last; replayed rows, which are in no file of the user's, apart."""
    tokenizer = load_tokenizer(base)
    stops = stop_tokens(base, tokenizer)
    own = len(prepared.train) - prepared.replayed
    named: list[tuple[str, Sequence[Row]]] = [
        ("train", prepared.train),
        ("validation", prepared.validation),
        ("test", prepared.test),
    ]
    if prepared.replayed:
        named[0] = ("train", prepared.train[:own])
        named.insert(1, ("replay", prepared.train[own:]))
    learn = recipe.schedule.learn
    return [
        encoded_rows(name, rows, prepared.kind, tokenizer, learn, stops) for name, rows in named
    ]


def _too_long(parts: Sequence[PartRows], recipe: Recipe, spec: BaseModelSpec) -> Iterator[str]:
    """A row is refused rather than cut: a cut answer teaches to stop nowhere, or in the middle."""
    most, limit = spec.max_model_len, recipe.schedule.max_tokens
    if most is not None and (over := _longer(parts, most)):
        yield f"data: {over}, and the base takes no more; shorten or remove them"
    if limit == "model" or (most is not None and limit >= most):
        return
    learned = [part for part in parts if part.name != "test"]
    if over := _longer(learned, limit):
        longest = max(part.longest().tokens for part in learned)
        yield (
            f"schedule.max_tokens: {over}, and no row is ever cut; set it to"
            f" {longest if most is None else min(longest, most)}, or shorten or remove the rows"
        )


def _longer(parts: Sequence[PartRows], limit: int) -> str | None:
    """How many rows are longer and which, in words."""
    over = {part: lines for part in parts if (lines := part.longer_than(limit))}
    if not over:
        return None
    count = sum(len(lines) for lines in over.values())
    which = "; ".join(part.where(lines) for part, lines in over.items())
    longest = max(part.longest().tokens for part in over)
    verb = "row is" if count == 1 else "rows are"
    return f"{count} {verb} longer than {limit} tokens ({which}; the longest has {longest})"


def _cut_answers(parts: Sequence[PartRows], recipe: Recipe) -> Iterator[str]:
    limit = recipe.evaluation.max_tokens
    test = parts[-1]
    over = [line for line, n in zip(test.lines, test.learned, strict=True) if n > limit]
    if over:
        yield (
            f"evaluation.max_tokens: answers of held-out rows ({test.where(over)}) are longer than"
            f" {limit} tokens, so no model can give them whole; set it to {max(test.learned)}"
        )


def _shape(recipe: Recipe, prepared: "Prepared", base: Path, spec: BaseModelSpec) -> RunShape:
    import torch

    from training.fitting.model import pick_dtype

    return RunShape(
        spec=spec,
        parameters=_parameters(base, spec),
        adapted=adapted_modules(recipe.adapter.target_modules, spec),
        rank=recipe.adapter.rank,
        dropout=recipe.adapter.dropout > 0,
        bytes_each=2 if pick_dtype(recipe.schedule.dtype) == torch.bfloat16 else 4,
        four_bit=recipe.method == "qlora",
        kind=prepared.kind,
    )


def _parameters(base: Path, spec: BaseModelSpec) -> int:
    """Of the base's files where they are there; else of its layers."""
    from safetensors import safe_open

    found = 0
    for file in base.glob("*.safetensors"):
        with safe_open(file, framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # it is no mapping
                size = 1
                for length in tensors.get_slice(name).get_shape():
                    size *= length
                found += size
    return found or sum(one.in_features * one.out_features for one in spec.modules.values())


def _memory(
    recipe: Recipe, parts: Sequence[PartRows], shape: RunShape, machine: MachineMemory
) -> tuple[MemoryEstimate, list[str]]:
    """The estimate for the rows at once that fit, and what to say about it."""
    longest = max((part.longest() for part in parts[:-1]), key=lambda one: one.tokens)
    one = estimate(shape, longest)
    schedule = recipe.schedule
    planned, fitting = rows_at_once(one, schedule.batch_size, machine)
    if not machine.gpu:
        planned = min(planned, ENOUGH_ON_A_CPU)
    place = "on the GPU" if machine.gpu else "of memory"
    if fitting == 0:
        raise TrainingError(
            f"memory: one row at once takes {one.told()}, and {gib(machine.free_bytes)} {place} are"
            " free; free some, take method qlora or a smaller base, or shorten the longest row"
            f" ({longest.tokens} tokens)"
        )
    wanted = schedule.micro_batch_size or planned
    if wanted <= fitting:
        return estimate(shape, longest, wanted), []
    if schedule.micro_batch_size is not None:
        raise TrainingError(
            f"schedule.micro_batch_size: {wanted} rows at once take"
            f" {estimate(shape, longest, wanted).told()}, and {gib(machine.free_bytes)} {place} are"
            f" free; set it to {fitting}, or leave it out"
        )
    warning = (
        f"schedule.micro_batch_size: {fitting} rows at once instead of {planned}, since only"
        f" {gib(machine.free_bytes)} {place} are free; a run with more differs in the last digits"
    )
    return estimate(shape, longest, fitting), [warning]
