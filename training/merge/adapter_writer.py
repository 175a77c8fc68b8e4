"""Modules of LoRA written as an adapter's folder, for PEFT, vLLM and `adapters push`."""

import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from training.errors import MergeError
from training.merge.lora import LoraModule
from training.merge.made_config import made_config

if TYPE_CHECKING:  # seconds to import
    import torch

METADATA_FILE = "metadata.json"


@dataclass(frozen=True, slots=True)
class WrittenAdapter:
    """A finished adapter folder. ranks: of its modules, by path. size_bytes: of its weights."""

    folder: Path
    ranks: Mapping[str, int]
    size_bytes: int

    @property
    def rank(self) -> int:
        """The highest of any module."""
        return max(self.ranks.values())


def check_free(folder: Path) -> None:
    """Raises MergeError where something is there already: nothing is ever overwritten."""
    if folder.exists() or folder.is_symlink():
        raise MergeError(f"{folder} is there already: name a new folder, or remove it")


def write_modules(
    modules: Iterable[LoraModule],
    folder: Path,
    base_name: str,
    *,
    base_modules: Collection[str],
    metadata: Mapping[str, Any],
    dtype: "torch.dtype",
) -> WrittenAdapter:
    """Make `folder` with the adapter and its metadata.json. It appears whole or not at all.

    modules: plain LoRA, each taken when the one before is converted. base_modules: the paths of
    all modules of the base that LoRA can adapt. metadata: lineage and serving profile, as the
    registry takes them. dtype: of the weights, which are in memory together before they are
    written. Raises MergeError for values that the type cannot hold, for a folder that is there,
    and where it cannot be written.
    """
    check_free(folder)
    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    fan_in_fan_out = False
    for module in modules:
        tensors |= _tensors(module, dtype)
        ranks[module.path] = module.a.shape[0]
        fan_in_fan_out |= module.fan_in_fan_out
    config = made_config(ranks, base_name, base_modules, fan_in_fan_out=fan_in_fan_out)
    with appearing(folder) as aside:
        _save(tensors, aside / WEIGHTS_FILE)
        for name, content in ((CONFIG_FILE, config), (METADATA_FILE, metadata)):
            text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
            (aside / name).write_text(text + "\n", encoding="utf-8")
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return WrittenAdapter(folder, ranks, size_bytes)


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its name when the block ends well, else goes.

    Its files are on disk for good by then. Raises MergeError where the disk refuses.
    """
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        aside.mkdir(parents=True)
        yield aside
        for path in (*aside.iterdir(), aside):
            _sync(path)
        check_free(folder)
        aside.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MergeError(f"{folder}: the adapter cannot be written: {reason}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tensors(module: LoraModule, dtype: "torch.dtype") -> "dict[str, torch.Tensor]":
    """The module's two, by PEFT's names for them, with the scaling in B."""
    names = ("lora_A.weight", "lora_B.weight")
    if module.kind == "embedding":
        names = ("lora_embedding_A", "lora_embedding_B")
    b = module.b.float() * module.scaling
    found = {}
    for name, matrix in zip(names, (module.a, b), strict=True):
        tensor = matrix.to(dtype).contiguous()
        if not bool(tensor.isfinite().all()):
            raise MergeError(
                f"{module.path}: {name} would hold NaN or infinity in {_called(dtype)}: its values"
                " are no numbers, or too large for the type; use float32"
            )
        found[f"base_model.model.{module.path}.{name}"] = tensor
    return found


def _called(dtype: "torch.dtype") -> str:
    return str(dtype).removeprefix("torch.")


def _save(tensors: "Mapping[str, torch.Tensor]", file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), file, metadata={"format": "pt"})
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(str(error)) from error
