"""LoRA's own update: W + left @ right."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.merge.updates.sums import compute_into

if TYPE_CHECKING:  # seconds to import
    import torch


@dataclass(frozen=True, slots=True)
class Factors:
    """A product of low rank, laid out as the weight is stored, and what it is multiplied with.

    left: (rows, rank). right: (rank, columns), in float64.
    """

    left: "torch.Tensor"
    right: "torch.Tensor"
    scaling: float

    def add_to(self, values: "torch.Tensor", first: int) -> "torch.Tensor":
        """Adds the product's rows from `first` on, in place. values: (rows, columns), float64."""
        left = self.left[first : first + len(values)].double() * self.scaling
        return values.addmm_(left, self.right)


@dataclass(frozen=True, slots=True)
class LowRank:
    """Adds a product of low rank. narrow: whether the result is rounded to 16 bits."""

    factors: Callable[[], Factors]
    narrow: bool
    by_rows: bool = True

    def apply(self, rows: "torch.Tensor", start: int) -> "torch.Tensor":
        """The rows with their part of the product added."""
        found = self.factors()

        def fill(part: slice, values: "torch.Tensor") -> None:
            found.add_to(values, start + part.start)

        return compute_into(rows, fill, narrow=self.narrow)
