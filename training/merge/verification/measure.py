"""Base, base+adapter, the best merge and the merged model over the same tokens.

Never two models in memory: base with adapter first, of which logits are kept, then the merged one.
"""

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from adapters_registry.child import Report
from adapters_registry.errors import ModelError
from training.merge.verification.as_merged import as_merged, unrounded
from training.merge.verification.judgement import Difference, Measured
from training.merge.verification.logits import MOST_VALUES, Gap, apart, greedy, logits, logits_width
from training.merge.verification.models import Place, load_base, load_merged
from training.merge.verification.probes import MOST_TOKENS, as_tokens
from training.merge.verification.stored import Stored, read_stored
from training.recipe.machine_memory import machine_memory, memory

if TYPE_CHECKING:  # seconds to import
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

_NEW_TOKENS = 16
_FLOAT32_BYTES = 4
# Logits of three models and of a batch, with its activations, beside the weights.
_BESIDE_BYTES = 6 * MOST_VALUES * _FLOAT32_BYTES
# A merge itself needs little memory, and so should its check: a larger model is read layer by layer
# though it may fit, which takes no longer than its arithmetic.
_MOST_IN_MEMORY_BYTES = 4 * 2**30
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Request:
    """Folders to compare, and how the adapter lies on the base (see `verify`)."""

    base: Path
    adapter: Path
    merged: Path
    quantization: str | None = None
    weight: float = 1.0
    prompts: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What base and adapter say over `sequences`, and the differences that are known by then.

    adapted, best: logits of base+adapter and of the best merge, by sequence. For the others see
    `Measured`.
    """

    sequences: list[list[int]]
    vocab_size: int
    adapted: "list[torch.Tensor]"
    best: "list[torch.Tensor]"
    effect: Difference
    rounding: Difference
    arithmetic: Difference


def measure(request: Request, scratch: Path, report: Report) -> Measured:
    """The differences between the models' logits. scratch: an empty folder. Raises ModelError."""
    stored = read_stored(request.merged)
    values = max(stored.values, read_stored(request.base).values)
    place = pick_place(values, scratch, streams=request.quantization is None)
    expected = expect(request, stored, place, report)
    gc.collect()  # a model has cycles: its memory would come back some time
    merged, best = compare(request.merged, expected, place, report)
    return Measured(
        probes=len(expected.sequences),
        tokens=sum(len(one) for one in expected.adapted),
        merged=merged,
        effect=expected.effect,
        rounding=expected.rounding,
        arithmetic=expected.arithmetic,
        best=best,
        dtype=stored.usual_dtype,
        how=_how(request, place),
    )


def pick_place(values: int, scratch: Path, *, streams: bool) -> Place:
    """Where a model of so many weights runs in float32. Raises ModelError where it cannot.

    streams: whether it may be read layer by layer, with `scratch`.
    """
    import torch

    needed = values * _FLOAT32_BYTES + _BESIDE_BYTES
    if torch.cuda.is_available() and machine_memory().free_bytes >= needed:
        return Place(torch.device("cuda"))
    _, free = memory(Path("/"))
    in_memory = needed <= _MOST_IN_MEMORY_BYTES or not streams
    if in_memory and free >= needed:
        return Place(torch.device("cpu"))
    if streams and free >= 2 * _BESIDE_BYTES:
        return Place(torch.device("cpu"), scratch)
    raise ModelError(
        f"{needed / _GIB:.1f} GiB of memory are needed to run the model, {free / _GIB:.1f} GiB "
        "are free: free some, merge on a larger machine, or merge unverified (--no-verify)"
    )


def expect(request: Request, stored: Stored, place: Place, report: Report) -> Expected:
    """Runs the base with and without the adapter, and as a merge to `stored` at its best."""
    import torch

    report("loading base and adapter", None)
    model = load_base(
        request.base,
        request.adapter,
        place,
        quantization=request.quantization,
        weight=request.weight,
    )
    with torch.inference_mode():
        report("running base and adapter", None)
        base = cast("PreTrainedModel", model.get_base_model())
        vocab_size = logits_width(base)
        sequences = _prompts(request, base)
        if place.scratch is None:  # else each token would read the whole model
            sequences = greedy(base, sequences, _NEW_TOKENS)
        return _expected(model, stored, sequences, vocab_size, report)


def _expected(
    model: "PeftModel",
    stored: Stored,
    sequences: list[list[int]],
    vocab_size: int,
    report: Report,
) -> Expected:
    adapted = list(logits(model, sequences, vocab_size))
    with as_merged(model, unrounded):
        arithmetic = apart(adapted, logits(model, sequences, vocab_size))
    report("running the best merge there can be", None)
    with as_merged(model, stored.rounded):
        best = list(logits(model, sequences, vocab_size))
    report("running the base alone", None)
    with model.disable_adapter():
        effect = apart(adapted, logits(model, sequences, vocab_size))
    return Expected(
        sequences=sequences,
        vocab_size=vocab_size,
        adapted=adapted,
        best=best,
        effect=effect,
        rounding=apart(adapted, best),
        arithmetic=arithmetic,
    )


def compare(
    folder: Path, expected: Expected, place: Place, report: Report
) -> tuple[Difference, Difference]:
    """The differences of the merged model in `folder` from base+adapter and from the best merge."""
    import torch

    report("loading the merged model", None)
    model = load_merged(folder, place)
    report("running the merged model", None)
    with torch.inference_mode():
        if (width := logits_width(model)) != expected.vocab_size:
            raise ModelError(
                f"the merged model has {width} tokens, base+adapter {expected.vocab_size}"
            )
        found = logits(model, expected.sequences, width)
        return _from_both(expected.adapted, expected.best, found)


def _from_both(
    adapted: "Iterable[torch.Tensor]",
    best: "Iterable[torch.Tensor]",
    found: "Iterable[torch.Tensor]",
) -> tuple[Difference, Difference]:
    """The differences of what was found from either, without keeping it."""
    from_adapted, from_best = Gap(), Gap()
    for one, other, logit in zip(adapted, best, found, strict=True):
        from_adapted.add(logit, one)
        from_best.add(logit, other)
    return from_adapted.difference, from_best.difference


def _prompts(request: Request, base: "PreTrainedModel") -> list[list[int]]:
    text = base.config.get_text_config()
    longest = getattr(text, "max_position_embeddings", None) or MOST_TOKENS + _NEW_TOKENS
    return as_tokens(
        request.base,
        request.prompts,
        vocab_size=text.vocab_size,
        most_tokens=max(1, longest - _NEW_TOKENS),
    )


def _how(request: Request, place: Place) -> str:
    what = "base+adapter by PEFT"
    if request.quantization is not None:
        what += f" on the base in 4 bits ({request.quantization}, by bitsandbytes)"
    where = f"computed in float32 on {place.device.type}"
    if place.scratch is not None:
        where += ", read layer by layer to save memory, so over the prompts alone"
    return f"{what}, the merged model by transformers, both {where}"
