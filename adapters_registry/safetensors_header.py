"""The header of a safetensors file, read as if an enemy had written it.

The format: 8 bytes with the header's length, little-endian; the header, a JSON object; the data.
Loaders differ in what they forgive, so nothing that could be read in two ways passes.
"""

import json
import os
from dataclasses import dataclass
from typing import Any

from adapters_registry.artifacts import WEIGHTS_FILE
from adapters_registry.errors import InvalidAdapter

MAX_HEADER_BYTES = 4 * 2**20
"""Thirty times what an adapter on every linear module of a 100-layer model needs."""

ITEM_BYTES = {"F16": 2, "BF16": 2, "F32": 4}
"""The element types an adapter may have, with their sizes."""

_PICKLE_STARTS = (b"\x80", b"(dp", b"c__")
_ZIP_START = b"PK\x03\x04"
_SHOWN_CHARS = 200


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor: its type, its shape, and where its bytes lie in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(descriptor: int) -> list[TensorEntry]:
    """The tensors of an open file in the order of their bytes, which they cover without a gap.

    Raises InvalidAdapter.
    """
    size_bytes = os.fstat(descriptor).st_size
    length = _header_length(os.pread(descriptor, 8, 0), size_bytes)
    header = _parse(os.pread(descriptor, length, 8))
    _check_metadata(header.pop("__metadata__", {}))
    data_start = 8 + length
    tensors = [_entry(name, spec, data_start) for name, spec in header.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.end))
    _check_cover(tensors, data_start, size_bytes)
    return tensors


def shown(name: str) -> str:
    """A name fit for a message: it may be long and hold anything."""
    return ascii(name if len(name) <= _SHOWN_CHARS else name[:_SHOWN_CHARS] + "...")


def _refuse(reason: str, field: str = WEIGHTS_FILE) -> InvalidAdapter:
    return InvalidAdapter(f"{WEIGHTS_FILE}: {reason}", field=field)


def _header_length(start: bytes, size_bytes: int) -> int:
    length = int.from_bytes(start, "little")
    # A length may begin with a byte that pickles begin with too: 128 does.
    if len(start) == 8 and 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - 8):
        return length
    if start.startswith((_ZIP_START, *_PICKLE_STARTS)):
        raise _refuse(
            "is a pickle or a zip, which can carry code: save the adapter as safetensors"
            " (save_pretrained(..., safe_serialization=True))"
        )
    if len(start) < 8:
        raise _refuse("is too short to be safetensors: save and upload the adapter again")
    if length > MAX_HEADER_BYTES:
        raise _refuse(
            f"is not safetensors, or its header has more than {MAX_HEADER_BYTES} bytes:"
            " save the adapter as safetensors"
        )
    raise _refuse("ends inside its header: save and upload the adapter again")


def _parse(content: bytes) -> dict[str, Any]:
    if not content.startswith(b"{"):
        raise _refuse("is not safetensors: its header must start with '{'")
    try:
        header = json.loads(content.decode(), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        if isinstance(error, DuplicateKey):
            raise _refuse(f"its header names {shown(error.key)} twice") from None
        raise _refuse("its header is not valid JSON") from None
    assert isinstance(header, dict)  # it starts with a brace
    return header


class DuplicateKey(ValueError):
    """A JSON object that names a key twice: readers disagree on which one counts."""

    def __init__(self, key: str) -> None:
        super().__init__("duplicate key")
        self.key = key


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads(object_pairs_hook=...)`. Raises DuplicateKey."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise DuplicateKey(key)
        found[key] = value
    return found


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _refuse("`__metadata__` must map texts to texts", "__metadata__")


def _entry(name: str, spec: object, data_start: int) -> TensorEntry:
    if not isinstance(spec, dict) or spec.keys() != {"dtype", "shape", "data_offsets"}:
        raise _refuse(f"{shown(name)} must have dtype, shape and data_offsets", name)
    dtype, shape, offsets = spec["dtype"], spec["shape"], spec["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _refuse(
            f"{shown(name)} has dtype {shown(str(dtype))}: save it as float16, bfloat16 or float32",
            name,
        )
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise _refuse(f"{shown(name)} has a malformed shape or data_offsets", name)
    elements = 1
    for size in shape:
        elements *= size
    if offsets[1] - offsets[0] != elements * ITEM_BYTES[dtype]:
        raise _refuse(f"{shown(name)}: its bytes do not match its dtype and shape", name)
    start, end = offsets
    return TensorEntry(name, dtype, tuple(shape), data_start + start, data_start + end)


def _are_sizes(value: object) -> bool:
    """A few integers; never a bool or a float, and bounded so that products stay small."""
    return (
        isinstance(value, list)
        and len(value) <= 8
        and all(type(size) is int and 0 <= size < 2**53 for size in value)
    )


def _check_cover(tensors: list[TensorEntry], data_start: int, size_bytes: int) -> None:
    position = data_start
    for tensor in tensors:
        if tensor.start < position:
            raise _refuse(f"{shown(tensor.name)} overlaps the tensor before it", tensor.name)
        if tensor.start > position:
            raise _refuse(f"there is a hole before {shown(tensor.name)}", tensor.name)
        position = tensor.end
    if position > size_bytes:
        raise _refuse("is truncated: upload it again")
    if position < size_bytes:
        raise _refuse("has bytes after its last tensor")
