"""A weight as a 4-bit base holds it: quantized by bitsandbytes, and taken back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from training.merge.reading import torch_dtype
from training.merge.tensors import Update

if TYPE_CHECKING:  # seconds to import
    import torch


@dataclass(frozen=True, slots=True)
class Requantized:
    """Rounds all of a weight to 4 bits, then applies the adapter's update to what is left.

    dtype: of the base's weight, as its file names it, which bitsandbytes gives back.
    fan_in_fan_out: whether it is stored as (in_features, out_features); it is quantized the other
    way round.
    """

    kind: Literal["nf4", "fp4"]
    dtype: str
    fan_in_fan_out: bool = False
    then: Update | None = None
    by_rows: bool = False

    def apply(self, rows: "torch.Tensor", start: int) -> "torch.Tensor":
        """The whole weight. Its 4-bit form depends on the mean of all its blocks."""
        weight = rows.to(torch_dtype(self.dtype))
        if self.fan_in_fan_out:
            rows.copy_(self._there_and_back(weight.T.contiguous()).T)
        else:
            rows.copy_(self._there_and_back(weight))
        return rows if self.then is None else self.then.apply(rows, start)

    def _there_and_back(self, weight: "torch.Tensor") -> "torch.Tensor":
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        packed, state = quantize_4bit(weight, compress_statistics=True, quant_type=self.kind)
        back: torch.Tensor = dequantize_4bit(packed, state)
        return back.view(weight.shape)
