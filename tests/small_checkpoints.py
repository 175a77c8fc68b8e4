"""Checkpoints of a few tensors, and updates that need no adapter."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from training.merge.checkpoint import INDEX_FILE, SINGLE_FILE, Checkpoint
from training.merge.tensors import Output, Update

Tensors = Mapping[str, torch.Tensor]


def write_single(folder: Path, tensors: Tensors) -> Path:
    """A folder with one file of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / SINGLE_FILE, metadata={"format": "pt"})
    return folder


def write_sharded(folder: Path, shards: Sequence[Tensors]) -> Path:
    """A folder with a file for each, and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(dict(tensors), folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / INDEX_FILE).write_text(json.dumps(index))
    return folder


@dataclass(frozen=True)
class Plus:
    """Adds a number to every element. whole: as an update that needs all rows."""

    number: float
    whole: bool = False

    @property
    def by_rows(self) -> bool:
        return not self.whole

    def apply(self, rows: torch.Tensor, start: int) -> torch.Tensor:
        return rows.add_(self.number)


@dataclass(frozen=True)
class RowNumbers:
    """Adds its number to every row, so that a block at a wrong place shows."""

    by_rows: bool = True

    def apply(self, rows: torch.Tensor, start: int) -> torch.Tensor:
        numbers = torch.arange(start, start + len(rows), dtype=rows.dtype)
        return rows + numbers.view(-1, *[1] * (rows.dim() - 1))


def outputs(found: Checkpoint, updates: Mapping[str, Update]) -> tuple[Output, ...]:
    """All tensors of the checkpoint, some of them updated."""
    return tuple(
        Output(name, info, info.shape, updates.get(name)) for name, info in found.tensors.items()
    )
