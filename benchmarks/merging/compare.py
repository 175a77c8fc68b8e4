"""A merged model against the exact sum: `python -m benchmarks.merging.compare BASE ADAPTER OUT`.

Prints one JSON object: by tensor of the base, how far OUT's is from base + scaling * B @ A in
float64. A block of rows is in memory at a time.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from benchmarks.merging.shapes import ALPHA, RANK

_BLOCK = 1 << 22


@dataclass
class Error:
    """largest, total: of the absolute differences. off: values that are not the nearest ones."""

    largest: float = 0.0
    total: float = 0.0
    off: int = 0
    values: int = 0

    def note(self, made: torch.Tensor, exact: torch.Tensor) -> None:
        """Another block. exact: in float64."""
        difference = (made.double() - exact).abs_()
        # By way of float32, so not always the nearest one itself: what is as near is not off.
        rounded = (exact.to(made.dtype).double() - exact).abs_()
        self.largest = max(self.largest, float(difference.max()))
        self.total += float(difference.sum())
        self.off += int((difference > rounded).sum())
        self.values += made.numel()


class Weights:
    """The tensors of a folder, sharded or not, read in blocks of rows."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self._files: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            file = opened.enter_context(safe_open(path, framework="pt"))
            self._files |= dict.fromkeys(file.keys(), file)

    def names(self) -> list[str]:
        return [*self._files]

    def slice(self, name: str) -> Any:
        """Of a tensor: `get_shape()`, `[rows]`. Raises KeyError."""
        return self._files[name].get_slice(name)


def compare(base: Path, adapter: Path, out: Path) -> dict[str, Error]:
    """By tensor. Raises ValueError where OUT has other tensors than the base."""
    with ExitStack() as opened:
        old, new = Weights(base, opened), Weights(out, opened)
        factors = Weights(adapter, opened)
        if {*old.names()} != {*new.names()}:
            other = sorted({*old.names()} ^ {*new.names()})
            raise ValueError(f"{len(other)} tensors are on one side only, such as {other[0]}")
        return {name: _error(name, old, new, factors) for name in old.names()}


def _error(name: str, old: Weights, new: Weights, factors: Weights) -> Error:
    error, a, b = Error(), None, None
    module = f"base_model.model.{name.removesuffix('.weight')}"
    if f"{module}.lora_A.weight" in factors.names():
        a = factors.slice(f"{module}.lora_A.weight")[:].double()
        b = factors.slice(f"{module}.lora_B.weight")[:].double()
    weights, made = old.slice(name), new.slice(name)
    if weights.get_shape() != made.get_shape():
        raise ValueError(f"{name} has another shape than the base's")
    for rows in _blocks(weights.get_shape()):
        exact = weights[rows].double()
        if a is not None and b is not None:
            exact.addmm_(b[rows], a, alpha=ALPHA / RANK)
        error.note(made[rows], exact)
    return error


def _blocks(shape: list[int]) -> Iterator[slice]:
    width = shape[1] if len(shape) > 1 else 1
    step = max(1, _BLOCK // width)
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def main() -> None:
    found = compare(*map(Path, sys.argv[1:4]))
    print(json.dumps({name: asdict(error) for name, error in found.items()}))


if __name__ == "__main__":
    main()
