"""The header of a base model's weights file, with all that can be wrong in it found.

The format is safetensors: 8 bytes with the header's length, little-endian; the header, a JSON
object; the tensors' bytes without a gap.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from adapters_registry.safetensors_header import DuplicateKey, shown, unique_keys
from training.errors import MergeError
from training.merge.tensors import ITEM_BYTES, TensorInfo

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

_FIX = "download or save the base model again"


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself. tensors: in the order of their bytes. sha256: of the header."""

    metadata: Mapping[str, str]
    tensors: tuple[TensorInfo, ...]
    size_bytes: int
    mtime_ns: int
    sha256: str


def read_header(file: Path) -> Header:
    """Raises MergeError, which names the file, where the tensors do not cover it exactly."""
    try:
        with file.open("rb", buffering=0) as source:
            return _read(file, source.fileno())
    except OSError as error:
        raise MergeError(f"{file} cannot be read ({error.strerror}): {_FIX}") from error


def _read(file: Path, descriptor: int) -> Header:
    found = os.fstat(descriptor)
    start = os.pread(descriptor, 8, 0)
    length = int.from_bytes(start, "little")
    if len(start) < 8:
        raise _refuse(file, "is truncated: it has no header")
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise _refuse(file, "is not safetensors: its first 8 bytes are no header length")
    if 8 + length > found.st_size:
        raise _refuse(file, "is truncated, or not safetensors: it ends inside its header")
    content = os.pread(descriptor, length, 8)
    header = _parse(file, content)
    metadata = _metadata(file, header.pop("__metadata__", {}))
    tensors = [_entry(file, name, spec, 8 + length) for name, spec in header.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.end))
    _check_cover(file, tensors, 8 + length, found.st_size)
    digest = hashlib.sha256(content).hexdigest()
    return Header(metadata, tuple(tensors), found.st_size, found.st_mtime_ns, digest)


def _refuse(file: Path, reason: str) -> MergeError:
    return MergeError(f"{file} {reason}: {_FIX}")


def _parse(file: Path, content: bytes) -> dict[str, Any]:
    try:
        header = json.loads(content, object_pairs_hook=unique_keys)
    except DuplicateKey as error:
        raise _refuse(file, f"is damaged: its header names {shown(error.key)} twice") from None
    except (ValueError, RecursionError):
        raise _refuse(file, "is damaged: its header is not valid JSON") from None
    if not isinstance(header, dict):
        raise _refuse(file, "is damaged: its header is not a JSON object")
    return header


def _metadata(file: Path, metadata: object) -> Mapping[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _refuse(file, "is damaged: its `__metadata__` must map texts to texts")
    return metadata


def _entry(file: Path, name: str, spec: object, data_start: int) -> TensorInfo:
    if not isinstance(spec, dict) or spec.keys() != {"dtype", "shape", "data_offsets"}:
        raise _refuse(file, f"is damaged: {shown(name)} needs dtype, shape and data_offsets")
    dtype, shape, offsets = spec["dtype"], spec["shape"], spec["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise MergeError(
            f"{file}: {shown(name)} has the type {shown(str(dtype))}, which is not known here; save"
            " the base model in float32, float16 or bfloat16"
        )
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise _refuse(file, f"is damaged: {shown(name)} has a malformed shape or data_offsets")
    if offsets[1] - offsets[0] != prod(shape) * ITEM_BYTES[dtype]:
        raise _refuse(file, f"is damaged: the bytes of {shown(name)} do not match its shape")
    start, end = (data_start + offset for offset in offsets)
    return TensorInfo(name, dtype, tuple(shape), file, start, end)


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(
        type(size) is int and 0 <= size < 2**53 for size in value
    )


def _check_cover(file: Path, tensors: list[TensorInfo], position: int, size_bytes: int) -> None:
    for tensor in tensors:
        if tensor.start != position:
            fault = "overlaps" if tensor.start < position else "leaves a hole after"
            raise _refuse(file, f"is damaged: {shown(tensor.name)} {fault} the tensor before it")
        position = tensor.end
    if position > size_bytes:
        raise _refuse(file, f"is truncated: {position:,} bytes by its header, {size_bytes:,} found")
    if position < size_bytes:
        raise _refuse(file, "is damaged: it has bytes after its last tensor")
