"""Rows of an embedding that were trained on their own take the place of the base's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # seconds to import
    import torch


@dataclass(frozen=True, slots=True)
class ReplaceRows:
    """Row `indices[i]` becomes row i of `trained`."""

    indices: Sequence[int]
    trained: Callable[[], "torch.Tensor"]
    by_rows: bool = True

    def apply(self, rows: "torch.Tensor", start: int) -> "torch.Tensor":
        """The rows, those replaced that are among them."""
        here = [(i, row) for i, row in enumerate(self.indices) if start <= row < start + len(rows)]
        if here:
            trained = self.trained()
            for i, row in here:
                rows[row - start] = trained[i].to(rows.dtype)
        return rows
