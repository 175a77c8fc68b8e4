"""DoRA: the direction of W + left @ right with a trained magnitude (arXiv 2402.09353)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.merge.updates.low_rank import Factors
from training.merge.updates.sums import compute_into, parts

if TYPE_CHECKING:  # seconds to import
    import torch


@dataclass(frozen=True, slots=True)
class RowDora:
    """Each row is given its magnitude: a linear weight, stored as (out_features, in_features).

    parts: the factors and the magnitudes (rows,). narrow: the result is rounded to 16 bits.
    """

    parts: Callable[[], "tuple[Factors, torch.Tensor]"]
    narrow: bool
    by_rows: bool = True

    def apply(self, rows: "torch.Tensor", start: int) -> "torch.Tensor":
        """The rows of the new direction, at their magnitudes."""
        import torch

        factors, magnitude = self.parts()

        def fill(part: slice, values: "torch.Tensor") -> None:
            factors.add_to(values, start + part.start)
            wanted = magnitude[start + part.start : start + part.stop].double()
            values.mul_((wanted / torch.linalg.vector_norm(values, dim=1)).unsqueeze(1))

        return compute_into(rows, fill, narrow=self.narrow)


@dataclass(frozen=True, slots=True)
class ColumnDora:
    """Each column is given its magnitude: an embedding, or a weight stored as (in, out).

    parts: the factors and the magnitudes (columns,). narrow: the result is rounded to 16 bits.
    """

    parts: Callable[[], "tuple[Factors, torch.Tensor]"]
    narrow: bool
    by_rows: bool = False

    def apply(self, rows: "torch.Tensor", start: int) -> "torch.Tensor":
        """All rows, in two passes: the columns' norms, then the new values."""
        import torch

        factors, magnitude = self.parts()
        squares = torch.zeros(rows.shape[1], dtype=torch.float64)
        for part, values in parts(rows):
            squares += factors.add_to(values, part.start).square_().sum(dim=0)
        wanted = magnitude.double() / squares.sqrt_()

        def fill(part: slice, values: "torch.Tensor") -> None:
            factors.add_to(values, part.start).mul_(wanted)

        return compute_into(rows, fill, narrow=self.narrow)
