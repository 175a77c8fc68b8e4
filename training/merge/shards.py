"""Shards written: blocks read, computed and written at the same time, each by a thread."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from training.errors import MergeError
from training.merge.blocks import BLOCK_ELEMENTS, Block, blocks
from training.merge.checkpoint import Checkpoint
from training.merge.job import ComputeDtype
from training.merge.lanes import AHEAD, Lanes
from training.merge.layout import Shard
from training.merge.part_file import PartFile
from training.merge.reading import block_bytes, read_into, read_tensor, torch_dtype
from training.merge.rounding import round_into
from training.merge.work_folder import WorkFolder

if TYPE_CHECKING:  # seconds to import
    import torch

_WIDEST_BYTES = 8


def write_shards(
    shards: Sequence[Shard],
    work: WorkFolder,
    checkpoint: Checkpoint,
    *,
    compute: ComputeDtype,
    threads: int | None,
    moved: Callable[[int], None],
) -> None:
    """Writes those that the work folder does not keep yet, each whole before it is kept.

    threads: for torch, None for as many as it has. moved: told how many bytes of weights went on
    their way. Raises MergeError, and OSError where the disk refuses; what is kept stays.
    """
    with ExitStack() as parts, _torch_threads(threads), Lanes() as lanes:
        results = _Results(lanes, compute)
        for shard in shards:
            if shard.name not in work.kept:
                part = parts.enter_context(PartFile(work.part(shard.name)))
                lanes.write(part.write, shard.header)
                results.write(shard, part, moved)
                lanes.write(_keep, shard, part, work, checkpoint)
        lanes.settle()


@contextmanager
def _torch_threads(count: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _keep(shard: Shard, part: PartFile, work: WorkFolder, checkpoint: Checkpoint) -> None:
    whole = part.seal()
    assert whole.size_bytes == shard.size_bytes, shard.name
    checkpoint.check_unchanged()
    work.keep(shard.name, whole)


class _Results:
    """Computes blocks in memory that is used again and again."""

    def __init__(self, lanes: Lanes, compute: ComputeDtype) -> None:
        self._lanes = lanes
        self._wide_always = compute == "float64"
        self._read = [_memory() for _ in range(AHEAD + 1)]
        self._reads = 0
        self._widened_into = _memory()
        self._written = [_memory() for _ in range(AHEAD + 1)]
        self._writes = 0

    def write(self, shard: Shard, part: PartFile, moved: Callable[[int], None]) -> None:
        for block, stored in self._lanes.read_ahead(blocks(shard), self._reader):
            tensor = block.tensor
            if stored is None and tensor.is_copy:
                self._lanes.write(part.copy, tensor.output.source)
                moved(tensor.size_bytes)
                continue
            if stored is None:
                stored = read_tensor(tensor.output.source, block.rows)
            for data in self._rounded(block, self._values(block, stored)):
                self._lanes.write(part.write, data)
                moved(len(data))

    def _reader(self, block: Block) -> "Callable[[], torch.Tensor] | None":
        """How to read it ahead. What is larger than a block is not, lest several be in memory."""
        source = block.tensor.output.source
        if block.tensor.is_copy or block_bytes(source, block.rows) > len(self._read[0]):
            return None
        memory = self._read[self._reads % len(self._read)]
        self._reads += 1
        return lambda: read_into(memory, source, block.rows)

    def _values(self, block: Block, stored: "torch.Tensor") -> "torch.Tensor":
        output = block.tensor.output
        if output.update is None:
            return stored
        values = output.update.apply(self._widened(block, stored), block.start)
        rows = output.shape if block.rows is None else (len(stored), *output.shape[1:])
        if tuple(values.shape) != rows:
            raise MergeError(
                f"{output.name}: the merged weights have the shape {tuple(values.shape)}, and "
                f"{rows} was expected: the adapter was made for another base"
            )
        return values

    def _widened(self, block: Block, stored: "torch.Tensor") -> "torch.Tensor":
        """In float32, or in float64 where asked for, or where another type comes out.

        Updates compute in float64 and give float32 that is fit for the base's type alone.
        """
        import torch

        other = block.tensor.dtype != block.tensor.output.source.dtype
        dtype = torch.float64 if self._wide_always or other else torch.float32
        if stored.dtype == dtype:
            return stored
        size_bytes = stored.numel() * dtype.itemsize
        if size_bytes > len(self._widened_into):
            return stored.to(dtype)
        return self._widened_into[:size_bytes].view(dtype).view(stored.shape).copy_(stored)

    def _rounded(self, block: Block, values: "torch.Tensor") -> Iterator[memoryview]:
        dtype = torch_dtype(block.tensor.dtype)
        flat = values.reshape(-1)
        for start in range(0, len(flat), BLOCK_ELEMENTS):
            piece = flat[start : start + BLOCK_ELEMENTS]
            memory = self._written[self._writes % len(self._written)]
            self._writes += 1
            target = memory[: len(piece) * dtype.itemsize]
            round_into(target.view(dtype), piece, block.tensor.output.name)
            yield target.numpy().data


def _memory() -> "torch.Tensor":
    import torch

    return torch.empty(BLOCK_ELEMENTS * _WIDEST_BYTES, dtype=torch.uint8)
