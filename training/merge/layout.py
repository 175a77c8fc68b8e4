"""Where each tensor of the merged model goes: the files, their headers, the index. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from training.errors import MergeError
from training.merge.checkpoint import SINGLE_FILE
from training.merge.job import OutputDtype
from training.merge.tensors import FLOATS, ITEM_BYTES, Output, TensorInfo

_SAFETENSORS_NAMES: Mapping[OutputDtype, str] = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
}
_CONFIG_NAMES = {name: word for word, name in _SAFETENSORS_NAMES.items()}
_ALIGNMENT_BYTES = 8


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor that will be written. dtype: as its file's header names it."""

    output: Output
    dtype: str

    @property
    def size_bytes(self) -> int:
        """Of its elements in that type."""
        return prod(self.output.shape) * ITEM_BYTES[self.dtype]

    @property
    def is_copy(self) -> bool:
        """Whether its bytes are those of its source."""
        return self.output.update is None and self.dtype == self.output.source.dtype


@dataclass(frozen=True, slots=True)
class Shard:
    """A file: its header, then its tensors in this order."""

    name: str
    header: bytes
    tensors: tuple[Placed, ...]

    @property
    def size_bytes(self) -> int:
        """Of the whole file."""
        return len(self.header) + self.weight_bytes

    @property
    def weight_bytes(self) -> int:
        """Of its tensors."""
        return sum(tensor.size_bytes for tensor in self.tensors)


def lay_out(
    outputs: Sequence[Output],
    base: Mapping[str, TensorInfo],
    *,
    dtype: OutputDtype,
    max_shard_bytes: int,
    metadata: Mapping[str, str],
) -> tuple[Shard, ...]:
    """The files in the order they are written: one, or as many as the size asks for.

    A tensor larger than `max_shard_bytes` gets a file of its own. metadata: of the base's files.
    Raises MergeError for an update of what is no float.
    """
    main = _most(base.values())
    placed = [Placed(output, _dtype(output, base, main, dtype)) for output in outputs]
    groups = list(_groups(placed, max_shard_bytes))
    count = len(groups)
    return tuple(
        Shard(_file_name(number, count), _header(group, metadata), group)
        for number, group in enumerate(groups, 1)
    )


def index(shards: Sequence[Shard]) -> dict[str, Any]:
    """What `model.safetensors.index.json` says of them."""
    files = {tensor.output.name: shard.name for shard in shards for tensor in shard.tensors}
    total_bytes = sum(shard.weight_bytes for shard in shards)
    return {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(files.items()))}


def config_dtype(shards: Sequence[Shard]) -> str:
    """The float type of most of what is written, as `config.json` names it."""
    written = (tensor for shard in shards for tensor in shard.tensors)
    return _CONFIG_NAMES[_most(written)]


def _most(tensors: Iterable[TensorInfo | Placed]) -> str:
    """The float type that most of the bytes have."""
    sizes = Counter[str]()
    for tensor in tensors:
        if tensor.dtype in FLOATS:
            sizes[tensor.dtype] += tensor.size_bytes
    return sizes.most_common(1)[0][0] if sizes else "F32"


def _dtype(output: Output, base: Mapping[str, TensorInfo], main: str, wanted: OutputDtype) -> str:
    """What comes out of an adapter takes the type that the base has in its place."""
    source = output.source
    if source.dtype not in FLOATS:
        if output.update is not None:
            raise MergeError(
                f"{output.name} is kept as {source.dtype}, which no update can be added to: save "
                "the base model in float32, float16 or bfloat16"
            )
        return source.dtype
    if wanted != "base":
        return _SAFETENSORS_NAMES[wanted]
    if base.get(source.name) == source:
        return source.dtype
    replaced = base.get(output.name)
    return replaced.dtype if replaced is not None and replaced.dtype in FLOATS else main


def _groups(placed: Sequence[Placed], max_bytes: int) -> Iterator[tuple[Placed, ...]]:
    group: list[Placed] = []
    size_bytes = 0
    for tensor in placed:
        if group and size_bytes + tensor.size_bytes > max_bytes:
            yield _aligned(group)
            group, size_bytes = [], 0
        group.append(tensor)
        size_bytes += tensor.size_bytes
    if group:
        yield _aligned(group)


def _aligned(group: list[Placed]) -> tuple[Placed, ...]:
    """Wider types first, so that each tensor begins at a multiple of its element's size."""
    return tuple(sorted(group, key=lambda tensor: -ITEM_BYTES[tensor.dtype]))


def _file_name(number: int, count: int) -> str:
    return SINGLE_FILE if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"


def _header(group: Sequence[Placed], metadata: Mapping[str, str]) -> bytes:
    # Loaders ask for the format.
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    start = 0
    for tensor in group:
        assert tensor.output.name not in header, tensor.output.name
        end = start + tensor.size_bytes
        header[tensor.output.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.output.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    return len(text).to_bytes(8, "little") + text
