"""The memory that a run will take, and how many rows at once fit into it. Pure.

The factors were measured: peak resident memory of training processes on a CPU, a llama of 135
million parameters and one of some thousand, in float32, bfloat16 and 4 bits, with DPO, adapted
everywhere and in attention only. The estimate was 4 to 12 % above what they took.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from adapters_registry.base_model import BaseModelSpec
from training.recipe.machine_memory import MachineMemory

# Numbers kept for the backward pass, a token: so many times a linear layer's outputs, and the
# hidden size in every layer; with an adapter, its layer's inputs and outputs; with dropout, its
# inputs once more.
_OUTPUTS, _HIDDEN = 1.6, 5.6
_ADAPTED_INPUTS, _ADAPTED_OUTPUTS, _DROPPED_INPUTS = 0.8, 2.1, 1.0
_KEPT_BYTES = {4: 4.0, 2: 2.6}
"""Of such a number, by those of a weight: in bfloat16, norms and adapters still are float32."""
_LOGITS = 2.6
"""Copies of the logits in float32 that the loss keeps."""
_REFERENCE = 1.5
"""DPO asks the base as well: its logits are there beside the adapter's."""

_ADAPTER_BYTES = 20
"""A trained parameter in float32: itself, its gradient, AdamW's two moments, the best so far."""
_FOUR_BIT_BYTES = 0.53
"""A parameter in NF4 with its scales."""
_LIBRARIES_BYTES = 700 * 2**20
"""PyTorch and what stands on it, in a process or on a GPU."""

ENOUGH_ON_A_CPU = 4
"""Rows at once: on a CPU more are no faster, measured."""
_PART_OF_ALL = 0.5
_PART_OF_FREE = 0.85
_LAYER = re.compile(r"^(.*?\.\d+)\.")


@dataclass(frozen=True, slots=True)
class Longest:
    """The longest rows. tokens: of a whole row; learned: of those with a label."""

    tokens: int
    learned: int


@dataclass(frozen=True, slots=True)
class RunShape:
    """What of a run takes memory. adapted: the paths of the modules with an adapter."""

    spec: BaseModelSpec
    parameters: int
    adapted: frozenset[str]
    rank: int
    dropout: bool
    bytes_each: Literal[2, 4]
    """Of a weight: 4 in float32, 2 in bfloat16."""
    four_bit: bool
    kind: Literal["chat", "preference"]


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes in one process. row_bytes: what each further row at once takes."""

    libraries_bytes: int
    weights_bytes: int
    adapter_bytes: int
    row_bytes: int
    micro_batch_size: int

    @property
    def total_bytes(self) -> int:
        """All of it, at the peak."""
        return self.fixed_bytes + self.row_bytes * self.micro_batch_size

    @property
    def fixed_bytes(self) -> int:
        """Whatever the rows."""
        return self.libraries_bytes + self.weights_bytes + self.adapter_bytes

    def told(self) -> str:
        """For people."""
        return (
            f"about {gib(self.total_bytes)}: {gib(self.weights_bytes)} weights,"
            f" {gib(self.adapter_bytes)} adapter and optimizer, {gib(self.libraries_bytes)}"
            f" libraries, {gib(self.row_bytes * self.micro_batch_size)} for"
            f" {self.micro_batch_size} rows at once"
        )


def estimate(shape: RunShape, longest: Longest, micro_batch_size: int = 1) -> MemoryEstimate:
    """What the run takes with so many rows at once."""
    return MemoryEstimate(
        libraries_bytes=_LIBRARIES_BYTES,
        weights_bytes=_weights(shape),
        adapter_bytes=_adapter_parameters(shape) * _ADAPTER_BYTES,
        row_bytes=_row(shape, longest),
        micro_batch_size=micro_batch_size,
    )


def rows_at_once(one: MemoryEstimate, batch_size: int, machine: MachineMemory) -> tuple[int, int]:
    """(planned, fitting) rows at once: what the machine's memory is for, and what is free now.

    The plan rests on all memory, not on what is free, so that the same run on the same machine is
    cut in the same way. 0: not even one row fits.
    """
    return (
        _fitting(one, batch_size, machine.total_bytes * _PART_OF_ALL) or 1,
        _fitting(one, batch_size, machine.free_bytes * _PART_OF_FREE),
    )


def gib(size_bytes: float) -> str:
    """In GiB, for people."""
    return f"{size_bytes / 2**30:.1f} GiB"


def _fitting(one: MemoryEstimate, batch_size: int, room_bytes: float) -> int:
    """The most equal parts of a batch that fit; 0 where one row does not."""
    for parts in range(1, batch_size + 1):
        rows = -(-batch_size // parts)
        if one.fixed_bytes + rows * one.row_bytes <= room_bytes:
            return rows
    return 0


def _weights(shape: RunShape) -> int:
    linear = sum(out * inputs for _, inputs, out in _linear(shape.spec)) if shape.four_bit else 0
    linear = min(linear, shape.parameters)
    return round(linear * _FOUR_BIT_BYTES + (shape.parameters - linear) * shape.bytes_each)


def _adapter_parameters(shape: RunShape) -> int:
    modules = shape.spec.modules
    return sum(
        shape.rank * (modules[path].in_features + modules[path].out_features)
        for path in shape.adapted
    )


def _row(shape: RunShape, longest: Longest) -> int:
    logits = _vocabulary(shape.spec) * 4 * _LOGITS
    token = _kept_for_backward(shape) * _KEPT_BYTES[shape.bytes_each]
    if shape.kind == "preference":
        return round(2 * longest.tokens * (token + logits * _REFERENCE))
    return round(longest.tokens * token + longest.learned * logits)


def _kept_for_backward(shape: RunShape) -> float:
    """Numbers a token."""
    linear = _linear(shape.spec)
    adapted = [one for one in linear if one[0] in shape.adapted]
    adapted_inputs = sum(inputs for _, inputs, _ in adapted)
    layers = {found[1] for path, _, _ in linear if (found := _LAYER.match(path))}
    return (
        _OUTPUTS * sum(out for _, _, out in linear)
        + _HIDDEN * _hidden(shape.spec) * len(layers)
        + (_ADAPTED_INPUTS + _DROPPED_INPUTS * shape.dropout) * adapted_inputs
        + _ADAPTED_OUTPUTS * sum(out for _, _, out in adapted)
    )


def _linear(spec: BaseModelSpec) -> Sequence[tuple[str, int, int]]:
    """(path, inputs, outputs) of every linear layer but the last."""
    return [
        (path, module.in_features, module.out_features)
        for path, module in spec.modules.items()
        if module.kind == "linear" and path.rpartition(".")[2] != "lm_head"
    ]


def _hidden(spec: BaseModelSpec) -> int:
    return max((m.out_features for m in spec.modules.values() if m.kind == "embedding"), default=0)


def _vocabulary(spec: BaseModelSpec) -> int:
    return max((m.in_features for m in spec.modules.values() if m.kind == "embedding"), default=0)
