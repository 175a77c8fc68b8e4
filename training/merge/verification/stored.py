"""What a model's folder stores: the types and sizes of its tensors, from their headers alone."""

import json
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from adapters_registry.errors import ModelError

if TYPE_CHECKING:  # seconds to import
    import torch

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Stored:
    """dtypes: of the float tensors, as `bfloat16`, by name. values: elements of all tensors."""

    dtypes: dict[str, str]
    values: int

    @property
    def usual_dtype(self) -> str:
        """What most tensors are."""
        counts = Counter(self.dtypes.values())
        return counts.most_common(1)[0][0] if counts else "float32"

    def rounded(self, name: str, weight: "torch.Tensor") -> "torch.Tensor":
        """A weight as this model would hold it, in float32."""
        import torch

        kind = self.dtypes.get(name, self.usual_dtype)
        return weight.to(getattr(torch, kind)).to(torch.float32)


def read_stored(folder: Path) -> Stored:
    """Of the safetensors files in `folder`. Raises ModelError."""
    from safetensors import SafetensorError, safe_open

    dtypes: dict[str, str] = {}
    values = 0
    try:
        for file in _files(folder):
            # A reader of its own, not the merge's: each checks the other.
            with safe_open(folder / file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118  # no mapping
                    tensor = opened.get_slice(name)
                    values += prod(tensor.get_shape())
                    if kind := _FLOATS.get(tensor.get_dtype()):
                        dtypes[name] = kind
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"the weights in {folder.name!r} cannot be read: {error}") from error
    return Stored(dtypes, values)


def _files(folder: Path) -> list[str]:
    index = folder / _INDEX
    if not index.is_file():
        return [_SINGLE]
    return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
