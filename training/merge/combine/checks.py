"""What is refused before adapters are combined, because no method has a meaning for it."""

import math
from collections.abc import Sequence

from training.errors import MergeError
from training.merge.combine.method import CombineMethod
from training.merge.lora import LoraModule, LoraSource


def check_weights(weights: Sequence[float]) -> None:
    """Raises MergeError for none, or one that is no number. They may be negative, as in PEFT."""
    if not weights:
        raise MergeError("adapters: none is named")
    for number, weight in enumerate(weights, 1):
        if not math.isfinite(weight):
            raise MergeError(f"the weight of adapter {number} must be a number, not {weight}")


def check_whole(sources: Sequence[tuple[LoraSource, float]]) -> None:
    """Raises MergeError where whole tensors or trained rows would have to be added or weighed."""
    holder: dict[str, int] = {}
    for number, (source, weight) in enumerate(sources, 1):
        for name in (*source.saved, *source.tokens):
            what = f"{name} whole (modules_to_save, a trained bias, or trained tokens)"
            if name in holder:
                raise MergeError(
                    f"adapters {holder[name]} and {number} both carry {what}, and such cannot be "
                    "added: leave one out"
                )
            if weight != 1:
                raise MergeError(
                    f"adapter {number} carries {what}, which no weight applies to: give the "
                    f"adapter the weight 1, not {weight}"
                )
            holder[name] = number
    for number, (source, _) in enumerate(sources, 1):
        for path in source.paths:
            other = holder.get(path) or holder.get(f"{path}.weight")
            if other not in (None, number):
                raise MergeError(
                    f"adapter {other} carries {path} whole, and adapter {number} has LoRA for it, "
                    "and such cannot be added: leave one out"
                )


def check_module(path: str, parts: Sequence[tuple[int, LoraModule]], method: CombineMethod) -> None:
    """Raises MergeError where the adapters' parts of one module cannot be made one.

    parts: each with its adapter's number, as the caller counts them, from 1.
    """
    for number, part in parts:
        _check_plain(path, number, part)
    first = parts[0]
    for other in parts[1:]:
        _check_alike(path, first, other)
    ranks = [part.a.shape[0] for _, part in parts]
    if method.keeps_rank and len(set(ranks)) > 1:
        raise MergeError(
            f"{path}: the adapters' ranks are {_listed(ranks)}, and {method.name} needs them "
            f"equal: use cat, which is exact, or {_svd_kin(method)} with a rank"
        )
    most = min(first[1].a.shape[1], first[1].b.shape[0])
    if method.rank is not None and method.rank > most:
        raise MergeError(
            f"rank: {path} has a side of {most}, which no rank exceeds, so {method.rank} is too "
            f"high: give at most {most}"
        )


def _check_plain(path: str, number: int, part: LoraModule) -> None:
    if part.magnitude is not None:
        raise MergeError(
            f"adapter {number} is a DoRA ({path}), whose update depends on the base it lies on, so "
            "that no method adds it: merge it alone, and the others into the merged model"
        )
    if part.bias is not None:
        raise MergeError(
            f"adapter {number} has a bias of LoRA at {path} (lora_bias), which no method adds: "
            "merge it alone, and the others into the merged model"
        )


def _check_alike(path: str, one: tuple[int, LoraModule], two: tuple[int, LoraModule]) -> None:
    (number, part), (other, second) = one, two
    both = f"{path}: adapters {number} and {other}"
    if part.kind != second.kind:
        raise MergeError(f"{both} take it for {part.kind} and {second.kind}: their bases differ")
    if part.fan_in_fan_out != second.fan_in_fan_out:
        raise MergeError(f"{both} differ in fan_in_fan_out: their bases differ")
    sizes = [(p.b.shape[0], p.a.shape[1]) for p in (part, second)]
    if sizes[0] != sizes[1]:
        shown = " and ".join("x".join(map(str, size)) for size in sizes)
        raise MergeError(f"{both} are made for {shown} weights: their bases differ")


def _listed(ranks: Sequence[int]) -> str:
    return ", ".join(map(str, ranks[:-1])) + f" and {ranks[-1]}"


def _svd_kin(method: CombineMethod) -> str:
    return "svd" if method.name == "linear" else f"{method.name}_svd"
