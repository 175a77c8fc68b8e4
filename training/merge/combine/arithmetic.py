"""Tensors of several adapters, all of one shape, made one: task arithmetic, TIES, DARE.

TIES: https://arxiv.org/abs/2306.01708, DARE: https://arxiv.org/abs/2311.03099. In what the papers
leave open this does as PEFT does: the sign is elected before the weights are applied, and what is
left of an element is divided by how many adapters kept it.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from training.merge.combine.method import CombineMethod, Sign
from training.merge.combine.sparsity import keep_drawn, keep_largest

if TYPE_CHECKING:  # seconds to import
    import torch


def mix(
    tensors: "Iterable[torch.Tensor]",
    weights: Sequence[float],
    method: CombineMethod,
    generator: "torch.Generator",
) -> "torch.Tensor":
    """The tensors as one, by any method but `cat`.

    tensors: each is asked for when those before it are pruned. generator: what `dare` draws from.
    """
    kept = _sparse(tensors, method, generator)
    if "ties" in method.name:
        return _of_elected_sign(kept, weights, method.sign)
    return _sum(kept, weights)


def _sparse(
    tensors: "Iterable[torch.Tensor]", method: CombineMethod, generator: "torch.Generator"
) -> "list[torch.Tensor]":
    if method.density is None:
        return list(tensors)
    if method.draws:
        return [keep_drawn(tensor, method.density, generator) for tensor in tensors]
    return [keep_largest(tensor, method.density) for tensor in tensors]


def _sum(tensors: "Sequence[torch.Tensor]", weights: Sequence[float]) -> "torch.Tensor":
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total


def _of_elected_sign(
    tensors: "Sequence[torch.Tensor]", weights: Sequence[float], sign: Sign
) -> "torch.Tensor":
    """The mean of those elements whose sign is that of most, each times its weight."""
    import torch

    votes = torch.zeros_like(tensors[0])
    for tensor in tensors:
        votes.add_(tensor if sign == "total" else tensor.sign())
    elected = torch.where(votes >= 0, 1.0, -1.0)
    total = torch.zeros_like(votes)
    agreeing = votes.zero_()  # its place is free now
    for tensor, weight in zip(tensors, weights, strict=True):
        agrees = tensor.sign() == elected
        total.add_(tensor * agrees, alpha=weight)
        agreeing.add_(agrees)
    return total.div_(agreeing.clamp_(min=1))
