"""Which elements of an update stay: the largest, or some drawn by lot."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # seconds to import
    import torch


def keep_largest(tensor: "torch.Tensor", density: float) -> "torch.Tensor":
    """The tensor with all but the part `density` of its elements zero, the largest staying."""
    import torch

    if density >= 1:
        return tensor
    flat = tensor.reshape(-1)
    count = int(density * flat.numel())
    staying = torch.topk(flat.abs(), count, sorted=False).indices
    kept = torch.zeros_like(flat)
    kept[staying] = flat[staying]
    return kept.reshape(tensor.shape)


def keep_drawn(
    tensor: "torch.Tensor", density: float, generator: "torch.Generator"
) -> "torch.Tensor":
    """The tensor with each element zero but by the chance `density`, its expectation kept."""
    import torch

    if density >= 1:
        return tensor
    mask = torch.bernoulli(torch.full_like(tensor, density), generator=generator)
    return mask.mul_(tensor).div_(density)


def module_seed(seed: int, path: str) -> int:
    """The seed of one module's draws: modules may then be asked for in any order, or again."""
    digest = hashlib.sha256(f"{seed} {path}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_of(seed: int, path: str) -> "torch.Generator":
    """A module's own source of chance."""
    import torch

    return torch.Generator().manual_seed(module_seed(seed, path))
