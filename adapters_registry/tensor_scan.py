"""Looks at every element of a tensor in a file, in little memory, by its bits."""

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adapters_registry.errors import InvalidAdapter
from adapters_registry.safetensors_header import TensorEntry

_CHUNK_BYTES = 2**22

# Little-endian words with the bits of the exponent: all of them set means NaN or infinity. The
# words are looked at as integers since numpy has no bfloat16.
_EXPONENTS: dict[str, tuple[npt.DTypeLike, int]] = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F80_0000),
}
_MAGNITUDES = {"F16": 0x7FFF, "BF16": 0x7FFF, "F32": 0x7FFF_FFFF}
"""All bits but the sign's. Read as integers, they are in the order of the numbers' sizes."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a tensor holds."""

    all_finite: bool
    any_nonzero: bool


def scan(descriptor: int, tensor: TensorEntry) -> Scan:
    """Reads the tensor's bytes through, a few MiB at a time."""
    word, exponent = _EXPONENTS[tensor.dtype]
    all_finite, any_nonzero = True, False
    position = tensor.start
    while position < tensor.end and all_finite:
        chunk = os.pread(descriptor, min(_CHUNK_BYTES, tensor.end - position), position)
        if not chunk:
            raise InvalidAdapter("the file shrank while it was read: upload it again")
        bits = np.frombuffer(chunk, dtype=word)
        all_finite = not bool(((bits & exponent) == exponent).any())
        # Shifted by one, the sign is gone: minus zero is zero.
        any_nonzero = any_nonzero or bool((bits << 1).any())
        position += len(chunk)
    return Scan(all_finite, any_nonzero)


def largest(descriptor: int, tensor: TensorEntry) -> float:
    """The greatest absolute value in a tensor that was found finite."""
    word, _ = _EXPONENTS[tensor.dtype]
    greatest = 0
    for position in range(tensor.start, tensor.end, _CHUNK_BYTES):
        chunk = os.pread(descriptor, min(_CHUNK_BYTES, tensor.end - position), position)
        bits = np.frombuffer(chunk, dtype=word) & _MAGNITUDES[tensor.dtype]
        greatest = max(greatest, int(bits.max(initial=0)))
    return _value(greatest, tensor.dtype)


def _value(bits: int, dtype: str) -> float:
    if dtype == "F16":
        return float(np.uint16(bits).view(np.float16))
    # bfloat16 is the upper half of a float32.
    return float(np.uint32(bits << 16 if dtype == "BF16" else bits).view(np.float32))
