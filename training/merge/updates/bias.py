"""What `lora_bias` adds to a module's bias."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.merge.updates.sums import compute_into

if TYPE_CHECKING:  # seconds to import
    import torch


@dataclass(frozen=True, slots=True)
class AddBias:
    """Adds a vector. bias: (out_features,), with the LoRA's scaling. narrow: as elsewhere."""

    bias: Callable[[], "torch.Tensor"]
    narrow: bool
    by_rows: bool = True

    def apply(self, rows: "torch.Tensor", start: int) -> "torch.Tensor":
        """The rows' biases with their part added."""
        bias = self.bias().double()

        def fill(part: slice, values: "torch.Tensor") -> None:
            values += bias[start + part.start : start + part.stop]

        return compute_into(rows, fill, narrow=self.narrow)
