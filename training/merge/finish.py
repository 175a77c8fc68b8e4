"""What a model's folder holds beside its weights: index, configuration, tokenizer, templates."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_registry.sealed_folder import SEAL
from training.merge.checkpoint import INDEX_FILE
from training.merge.job import OutputDtype
from training.merge.layout import Shard, index

CONFIG_FILE = "config.json"
CARD_FILE = "README.md"

_WEIGHTS = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".gguf",
    ".onnx",
    ".ot",
    ".index.json",
)
_FOLDERS = ("additional_chat_templates",)
_DTYPE_FIELDS = ("dtype", "torch_dtype")
"""The second is what configurations had before transformers 4.56."""


def merged_config(
    config: Mapping[str, Any], changes: Mapping[str, Any], dtype: str, wanted: OutputDtype
) -> dict[str, Any]:
    """The base's configuration with the plan's changes; a change to None takes a field away.

    dtype: of the weights. Where it was not asked for, what the base says stands: it may say that
    its weights are to be run in another type.
    """
    merged = {**config, **changes}
    said = [name for name in _DTYPE_FIELDS if name in merged]
    if wanted != "base" or not said:
        merged |= dict.fromkeys(said or _DTYPE_FIELDS[:1], dtype)
        for name, value in merged.items():
            if isinstance(value, dict):  # the configuration of a part, as `text_config`
                merged[name] = value | {field: dtype for field in _DTYPE_FIELDS if field in value}
    gone = {name for name, value in changes.items() if value is None}
    return {name: value for name, value in merged.items() if name not in gone}


def travels(name: str) -> bool:
    """Whether a file of the base's folder goes along as it is."""
    own = (CONFIG_FILE, CARD_FILE, SEAL)
    return name not in own and not name.startswith(".") and not name.endswith(_WEIGHTS)


def travelling_bytes(base: Path) -> int:
    """The size of what goes along."""
    return sum(file.stat().st_size for file, _ in _travelling(base))


def finish(base: Path, folder: Path, shards: Sequence[Shard], config: Mapping[str, Any]) -> None:
    """Puts beside the weights in `folder` all but the card. May raise OSError."""
    for file, name in _travelling(base):
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)
    if len(shards) > 1:
        _write_json(folder / INDEX_FILE, index(shards))
    _write_json(folder / CONFIG_FILE, config)


def _travelling(base: Path) -> Iterator[tuple[Path, str]]:
    """Files, each with its path in the folder."""
    for file in sorted(base.iterdir()):
        if file.is_file() and travels(file.name):
            yield file, file.name
        elif file.is_dir() and file.name in _FOLDERS:
            for inner in sorted(file.iterdir()):
                if inner.is_file():
                    yield inner, f"{file.name}/{inner.name}"


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")
