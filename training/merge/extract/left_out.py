"""What of a fine-tune no LoRA holds, and whether its change is more than rounding."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from training.errors import MergeError
from training.merge.reading import read_tensor
from training.merge.tensors import TensorInfo

if TYPE_CHECKING:  # seconds to import
    import torch

_BLOCK_ELEMENTS = 2**20
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Other:
    """A tensor of either model that goes into no module's LoRA, and why."""

    name: str
    reason: str
    base: TensorInfo | None
    tuned: TensorInfo | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A change of the fine-tune that the adapter does not have.

    name: of a tensor, a module or a file. reason: why not. largest: of the element-wise changes,
    None where there is nothing to compare element by element. lost: whether it is more than the
    rounding of a weight to its type.
    """

    name: str
    reason: str
    largest: float | None
    lost: bool


def find_left_out(others: Iterable[Other]) -> Iterator[LeftOut]:
    """Those that differ at all. Reads both, a block at a time."""
    for other in others:
        base, tuned = other.base, other.tuned
        if base is None or tuned is None:
            which = "the base" if base is None else "the fine-tune"
            yield LeftOut(other.name, f"{which} has no such tensor", None, True)
        elif base.shape != tuned.shape:
            shapes = f"{list(base.shape)} in the base, {list(tuned.shape)} in the fine-tune"
            yield LeftOut(other.name, f"its shape is {shapes}", None, True)
        else:
            found = compare(base, tuned)
            if found.largest > 0:
                yield LeftOut(other.name, other.reason, found.largest, found.beyond_rounding)


def refuse_lost(left_out: Sequence[LeftOut]) -> None:
    """Raises MergeError, which names what would be lost."""
    lost = [one for one in left_out if one.lost]
    if not lost:
        return
    shown = "; ".join(map(_shown, lost[:_SHOWN]))
    more = f"; and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
    raise MergeError(
        f"the fine-tune changes what an adapter cannot carry: {shown}{more}. Serve it as a model of"
        " its own; or leave these changes out knowingly, with --allow-left-out"
    )


def _shown(one: LeftOut) -> str:
    by = "" if one.largest is None else f", changed by up to {one.largest:.2g}"
    return f"{one.name} ({one.reason}{by})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """largest: of the element-wise differences. beyond_rounding: see `compare`."""

    largest: float
    beyond_rounding: bool


def compare(base: TensorInfo, tuned: TensorInfo) -> Comparison:
    """How far two tensors of one shape are apart.

    Beyond rounding: an element differs by more than one step of the coarser of the two types.
    Raises MergeError.
    """
    largest, beyond = 0.0, False
    for rows in _blocks(base):
        found = compare_values(read_tensor(base, rows), read_tensor(tuned, rows))
        largest = max(largest, found.largest)
        beyond |= found.beyond_rounding
    return Comparison(largest, beyond)


def compare_values(base: "torch.Tensor", tuned: "torch.Tensor") -> Comparison:
    """The same of two in memory."""
    import torch

    if base.numel() == 0 or (base.dtype == tuned.dtype and torch.equal(base, tuned)):
        return Comparison(0.0, False)
    step = max(_step(base.dtype), _step(tuned.dtype))
    one, two = base.double(), tuned.double()
    apart = (one - two).abs_()
    beyond = bool((apart > step * torch.maximum(one.abs_(), two.abs_())).any())
    return Comparison(float(apart.max()), beyond)


def _step(dtype: "torch.dtype") -> float:
    """Between two neighbours of a float type, by their size."""
    import torch

    return float(torch.finfo(dtype).eps) if dtype.is_floating_point else 0.0


def _blocks(tensor: TensorInfo) -> Iterator[slice | None]:
    if not tensor.shape:
        yield None
        return
    step = max(1, _BLOCK_ELEMENTS // max(1, prod(tensor.shape[1:])))
    for start in range(0, tensor.shape[0], step):
        yield slice(start, min(start + step, tensor.shape[0]))
