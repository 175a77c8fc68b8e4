"""Tensors read from files with plain reads: mapped pages would count as this process's memory."""

import os
from math import prod
from typing import TYPE_CHECKING

from training.errors import MergeError
from training.merge.tensors import ITEM_BYTES, TensorInfo

if TYPE_CHECKING:  # seconds to import
    import torch

_TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "BF16": "bfloat16",
    "F16": "float16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


def torch_dtype(name: str) -> "torch.dtype":
    """What torch calls a type of safetensors."""
    import torch

    found = getattr(torch, _TORCH_NAMES[name])
    assert isinstance(found, torch.dtype)
    return found


def read_tensor(info: TensorInfo, rows: slice | None = None) -> "torch.Tensor":
    """The tensor in the type it is stored in, in memory of its own.

    rows: a block of the first axis, with both ends. Raises MergeError.
    """
    import torch

    return read_into(torch.empty(block_bytes(info, rows), dtype=torch.uint8), info, rows)


def read_into(
    memory: "torch.Tensor", info: TensorInfo, rows: slice | None = None
) -> "torch.Tensor":
    """`read_tensor` into the begin of `memory`, whose bytes (uint8) it must fit."""
    before = 0 if rows is None else rows.start * prod(info.shape[1:]) * ITEM_BYTES[info.dtype]
    target = memory[: block_bytes(info, rows)]
    try:
        descriptor = os.open(info.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _fill(target.numpy().data, descriptor, info.start + before)
        finally:
            os.close(descriptor)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "it ends too early"
        raise MergeError(f"{info.file}: {info.name} cannot be read: {reason}") from error
    return target.view(torch_dtype(info.dtype)).reshape(block_shape(info, rows))


def block_shape(info: TensorInfo, rows: slice | None) -> tuple[int, ...]:
    """The shape of such a block."""
    return info.shape if rows is None else (rows.stop - rows.start, *info.shape[1:])


def block_bytes(info: TensorInfo, rows: slice | None) -> int:
    """The size of such a block."""
    return prod(block_shape(info, rows)) * ITEM_BYTES[info.dtype]


def _fill(target: memoryview, descriptor: int, offset: int) -> None:
    done = 0
    while done < len(target):
        count = os.preadv(descriptor, [target[done:]], offset + done)
        if count == 0:
            raise EOFError
        done += count
