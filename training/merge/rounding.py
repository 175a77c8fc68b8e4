"""The one rounding of a merge: from the type of the computation to the type that is written."""

import math
from typing import TYPE_CHECKING

from training.errors import MergeError

if TYPE_CHECKING:  # seconds to import
    import torch

_PART_ELEMENTS = 2**17
"""What is needed in between stays in the processor's cache."""


def round_into(target: "torch.Tensor", values: "torch.Tensor", name: str) -> None:
    """Writes the values, as many in one dimension, in the target's type: to nearest, ties to even.

    Raises MergeError, naming the tensor, where one is not finite there.
    """
    import torch

    if values.dtype == torch.float64 and target.element_size() < 4:
        for start in range(0, len(values), _PART_ELEMENTS):
            part = slice(start, start + _PART_ELEMENTS)
            target[part] = _to_odd_float32(values[part])
    else:
        target.copy_(values)
    if not _all_finite(target):
        raise MergeError(_not_finite(target, values, name))


def _to_odd_float32(values: "torch.Tensor") -> "torch.Tensor":
    """float64 as float32, what is between two going to the one whose last bit is 1.

    torch goes from float64 to the 16-bit types by way of float32, which rounds twice. Rounding to
    odd first leaves the second rounding to decide as if it were the only one: it keeps on which
    side of every 16-bit midpoint a value lies (Boldo and Melquiond, 2008).
    """
    import torch

    nearest = values.to(torch.float32)
    back = nearest.to(torch.float64)
    bits = nearest.view(torch.int32)
    bits -= (back.abs() > values.abs()).to(torch.int32)
    bits |= (back != values).to(torch.int32)
    return nearest


def _all_finite(values: "torch.Tensor") -> bool:
    if values.numel() == 0:
        return True
    low, high = values.aminmax()  # one pass without a mask in memory; NaN comes through
    return math.isfinite(low.item()) and math.isfinite(high.item())


def _not_finite(target: "torch.Tensor", values: "torch.Tensor", name: str) -> str:
    word = str(target.dtype).removeprefix("torch.")
    if not _all_finite(values):
        return (
            f"{name}: the merged weights hold NaN or Inf: the base or the adapter is damaged, or "
            "the training diverged"
        )
    return (
        f"{name}: the merged weights do not fit {word}, whose largest number is "
        f"{_largest(target):g}; choose --dtype bfloat16 or float32"
    )


def _largest(target: "torch.Tensor") -> float:
    import torch

    return float(torch.finfo(target.dtype).max)
