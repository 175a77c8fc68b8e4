"""What is known of tensors before they are read, and what becomes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # seconds to import
    import torch

ITEM_BYTES: Mapping[str, int] = {
    "F64": 8,
    "F32": 4,
    "BF16": 2,
    "F16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}
"""The element types of safetensors, as its headers name them, with their sizes in bytes."""

FLOATS = frozenset({"F32", "BF16", "F16"})
"""What weights are read and written as. Other types go over as they are."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor in a safetensors file. start, end: where its bytes lie, from the file's begin."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        """Of its elements."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


class Update(Protocol):
    """What an adapter adds to one tensor of the base."""

    @property
    def by_rows(self) -> bool:
        """Whether a row of the result needs no other row, so that a tensor can go in blocks."""

    def apply(self, rows: "torch.Tensor", start: int) -> "torch.Tensor":
        """The new values of the rows from `start` on.

        rows: of the base's tensor in the type of the computation, float32 or float64; may be
        changed in place and returned. All of them where not `by_rows`.
        """


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor of the merged model: where it comes from, and what is done to it.

    source: in the base, or in an adapter that carries the whole tensor. shape: of the result.
    """

    name: str
    source: TensorInfo
    shape: tuple[int, ...]
    update: Update | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a merge writes.

    outputs: in the order of the base's files. config: fields to set in `config.json`. matched:
    modules of the base that the adapter changes. notes: what the user must be told.
    """

    outputs: tuple[Output, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    matched: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
