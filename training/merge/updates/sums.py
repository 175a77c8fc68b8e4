"""Sums in float64 of blocks in float32, a part at a time that stays in the processor's cache."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # seconds to import
    import torch

    Fill = Callable[[slice, torch.Tensor], object]

_PART_ELEMENTS = 2**17
_MIDPOINT_MASK = 0xFFF
"""float32 that lies halfway between two numbers of a 16-bit type ends in as many zero bits."""


def compute_into(rows: "torch.Tensor", fill: "Fill", *, narrow: bool) -> "torch.Tensor":
    """The rows, float32 or float64, with new values, rounded once.

    fill: given a part's slice of the rows and its old values in float64, makes them the new ones
    in place. narrow: the rows will be rounded to 16 bits.
    """
    for part, values in parts(rows):
        fill(part, values)
        _store(values, rows[part], narrow)
    return rows


def parts(rows: "torch.Tensor") -> "Iterator[tuple[slice, torch.Tensor]]":
    """Slices of the first axis that cover it, with the values in float64 in the same memory."""
    import torch

    step = max(1, _PART_ELEMENTS // max(1, rows[:1].numel()))
    memory = torch.empty((min(step, len(rows)), *rows.shape[1:]), dtype=torch.float64)
    for start in range(0, len(rows), step):
        part = slice(start, min(start + step, len(rows)))
        yield part, memory[: part.stop - part.start].copy_(rows[part])


def _store(exact: "torch.Tensor", into: "torch.Tensor", narrow: bool) -> None:
    """Rounded once, also where a rounding to 16 bits follows.

    What lies almost halfway between two 16-bit numbers can become exactly halfway in float32, and
    then go the wrong way. It is moved by one bit to its own side, which that rounding sees.
    """
    into.copy_(exact)
    stored = into.view(-1).numpy()
    if not narrow or stored.dtype != np.float32:
        return
    ends = np.flatnonzero((stored.view(np.int32) & _MIDPOINT_MASK) == 0)  # torch's is slower
    error = exact.view(-1).numpy()[ends] - stored[ends]
    ends, error = ends[error != 0], error[error != 0]
    side = np.copysign(np.float32(np.inf), error.astype(np.float32))
    stored[ends] = np.nextafter(stored[ends], side)
