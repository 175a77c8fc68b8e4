"""Blocks of rows, so that a tensor of any size goes through a little memory. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from training.merge.layout import Placed, Shard

BLOCK_ELEMENTS = 2**20
"""4 MiB in float32: what is read, computed and rounded stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of a tensor's first axis; None is all of it."""

    tensor: Placed
    rows: slice | None

    @property
    def start(self) -> int:
        """Its first row."""
        return 0 if self.rows is None else self.rows.start


def blocks(shard: Shard, elements: int = BLOCK_ELEMENTS) -> Iterator[Block]:
    """The shard's tensors in their order, in blocks of about as many elements.

    A tensor that is copied, or whose update needs all its rows, is one block; a row is never cut.
    """
    for tensor in shard.tensors:
        update, shape = tensor.output.update, tensor.output.source.shape
        if tensor.is_copy or not shape or (update is not None and not update.by_rows):
            yield Block(tensor, None)
            continue
        step = max(1, elements // max(1, prod(shape[1:])))
        for start in range(0, shape[0], step):
            yield Block(tensor, slice(start, min(start + step, shape[0])))
