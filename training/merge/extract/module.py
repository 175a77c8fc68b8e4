"""The difference of one weight as LoRA: how much of it a rank holds."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters_registry.base_model import ModuleSpec
from training.merge.combine.svd import ThinProduct, decompose
from training.merge.lora import LoraModule

if TYPE_CHECKING:  # seconds to import
    import torch


@dataclass(frozen=True, slots=True)
class ExtractedModule:
    """What became of one module.

    energy: the part of the difference that the adapter holds, in squares: 1 is all of it. What
    rounding to a 16-bit type did to the weights is difference too, and of any rank.
    change: the Frobenius norm of the difference. relative: the same by the norm of the base.
    """

    path: str
    rank: int
    energy: float
    change: float
    relative: float


@dataclass(frozen=True, slots=True)
class Factored:
    """A difference cut to a rank, with its own norm and that of the base's weight."""

    thin: ThinProduct
    change: float
    base_norm: float

    @property
    def rank(self) -> int:
        """Of what it was cut to."""
        return int(self.thin.a.shape[0])

    @property
    def energy(self) -> float:
        """1 less the square of the residual's norm over that of the difference."""
        # The factors are orthogonal, so what is left of the squares is what they hold.
        held = float(self.thin.values[: self.rank].double().square().sum())
        return min(1.0, held / self.change**2)

    def described(self, path: str) -> ExtractedModule:
        """For one of the modules that have the weight."""
        relative = self.change / self.base_norm if self.base_norm else float("inf")
        return ExtractedModule(path, self.rank, self.energy, self.change, relative)

    def as_lora(self, path: str, spec: ModuleSpec) -> LoraModule:
        """For one of them. The scaling is 1."""
        a, b = self.thin.a, self.thin.b
        if spec.kind == "embedding" or spec.fan_in_fan_out:
            a, b = b.T, a.T  # the weight is kept the other way around
        return LoraModule(path, spec.kind, a, b, 1.0, fan_in_fan_out=spec.fan_in_fan_out)


def factor(difference: "torch.Tensor", base_norm: float, rank: int, seed: int) -> Factored:
    """The difference, float32 and not all zero, cut to the rank, or to its own where that is less.

    Its own is the number of singular values that float32 can tell from zero beside the largest.
    """
    import torch

    change = float(torch.linalg.vector_norm(difference, dtype=torch.float64))
    thin = decompose(difference, rank, seed)
    least = float(thin.values[0]) * max(difference.shape) * torch.finfo(torch.float32).eps
    own = max(1, int((thin.values > least).sum()))
    return Factored(thin.cut(own), change, base_norm)
