"""Makes a base and its adapter: `python -m benchmarks.merging.made FOLDER SIZE_BYTES`.

FOLDER gets `base/`, sharded and in bfloat16, and `adapter/`, PEFT's format in float32. SIZE_BYTES 0
makes a tiny one. A block of a tensor is in memory at a time.
"""

import json
import sys
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors.torch import save_file

from benchmarks.merging.shapes import ITEM_BYTES, RANK, TINY, Shape, shape_of, shards

_BLOCK = 1 << 22
_SPREAD = 0.02


def make_base(shape: Shape, folder: Path, chance: torch.Generator) -> None:
    """Normal weights, norms about one; config.json and an index as transformers writes them."""
    folder.mkdir(parents=True)
    files = shards([*shape.tensors()])
    places: dict[str, str] = {}
    for number, tensors in enumerate(files, 1):
        name = f"model-{number:05}-of-{len(files):05}.safetensors"
        places |= dict.fromkeys((tensor for tensor, _ in tensors), name)
        with (folder / name).open("wb") as file:
            file.write(_header(tensors))
            for tensor, size in tensors:
                _write_normal(file, prod(size), 1.0 if "norm" in tensor else 0.0, chance)
    index = {"metadata": {"total_size": shape.size_bytes()}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=2))


def make_adapter(shape: Shape, folder: Path, base: Path, chance: torch.Generator) -> None:
    """Of rank 16 on every linear layer, both factors normal."""
    folder.mkdir(parents=True)
    tensors = {}
    for path, (rows, columns) in shape.modules():
        name = f"base_model.model.{path}"
        tensors[f"{name}.lora_A.weight"] = _normal((RANK, columns), chance)
        tensors[f"{name}.lora_B.weight"] = _normal((rows, RANK), chance)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = shape.adapter_config(str(base))
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))


def _header(tensors: list[tuple[str, tuple[int, ...]]]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, size in tensors:
        end = at + prod(size) * ITEM_BYTES
        entries[name] = {"dtype": "BF16", "shape": size, "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_normal(file: BinaryIO, count: int, mean: float, chance: torch.Generator) -> None:
    for start in range(0, count, _BLOCK):
        values = _normal((min(_BLOCK, count - start),), chance).add_(mean).to(torch.bfloat16)
        file.write(values.view(torch.uint8).numpy().data)


def _normal(size: tuple[int, ...], chance: torch.Generator) -> torch.Tensor:
    return torch.empty(size).normal_(0.0, _SPREAD, generator=chance)


def main() -> None:
    folder, size_bytes = Path(sys.argv[1]), float(sys.argv[2])
    shape = shape_of(size_bytes) if size_bytes else TINY
    chance = torch.Generator().manual_seed(shape.layers)
    make_base(shape, folder / "base", chance)
    make_adapter(shape, folder / "adapter", folder / "base", chance)


if __name__ == "__main__":
    main()
