"""A base model's weights in a folder: which tensors there are, and where each lies."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_registry.safetensors_header import DuplicateKey, shown, unique_keys
from training.errors import MergeError
from training.merge.header import Header, read_header
from training.merge.tensors import TensorInfo

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights of a model, found whole. tensors: in the order of the files and their bytes.

    metadata: of the files, the first that names a key counts. files: with their headers.
    """

    folder: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    files: Mapping[Path, Header]

    def check_unchanged(self) -> None:
        """Raises MergeError where a file is no longer what it was when the headers were read."""
        for file, header in self.files.items():
            try:
                found = file.stat()
            except OSError as error:
                raise _changed(file) from error
            if (found.st_size, found.st_mtime_ns) != (header.size_bytes, header.mtime_ns):
                raise _changed(file)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Reads the headers of `model.safetensors`, or of the shards that the index names.

    Raises MergeError, which names the file, for every damage that shows without the weights.
    """
    if (folder / SINGLE_FILE).exists():
        return _open(folder, [SINGLE_FILE])
    if not (folder / INDEX_FILE).exists():
        raise MergeError(
            f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}: name a folder with a model in "
            "the Hugging Face format, saved as safetensors"
        )
    weight_map = _read_index(folder / INDEX_FILE)
    found = _open(folder, sorted(set(weight_map.values())))
    _check_index(found, weight_map)
    return found


def _open(folder: Path, names: list[str]) -> Checkpoint:
    headers = {folder / name: read_header(folder / name) for name in names}
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for file, header in headers.items():
        metadata = {**header.metadata, **metadata}
        for tensor in header.tensors:
            if (other := tensors.get(tensor.name)) is not None:
                raise MergeError(
                    f"{file}: {shown(tensor.name)} is also in {other.file.name}; download or save "
                    "the base model again"
                )
            tensors[tensor.name] = tensor
    if not tensors:
        raise MergeError(f"{folder}: the weights hold no tensor; save the base model again")
    return Checkpoint(folder, tensors, metadata, headers)


def _read_index(file: Path) -> dict[str, str]:
    try:
        index: Any = json.loads(file.read_bytes(), object_pairs_hook=unique_keys)
        weight_map = index["weight_map"]
    except DuplicateKey as error:
        raise _bad_index(file, f"it names {shown(error.key)} twice") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _bad_index(file, "it is no JSON object with `weight_map`") from None
    except OSError as error:
        raise _bad_index(file, f"it cannot be read ({error.strerror})") from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise _bad_index(file, "`weight_map` must map tensors to files")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard or "\0" in shard:
            raise _bad_index(file, f"{shown(name)} must be in a file of the same folder")
    return weight_map


def _check_index(found: Checkpoint, weight_map: Mapping[str, str]) -> None:
    index = found.folder / INDEX_FILE
    for name, shard in weight_map.items():
        tensor = found.tensors.get(name)
        if tensor is None or tensor.file.name != shard:
            raise _bad_index(index, f"it names {shown(name)}, which is not in {shard}")
    for name, tensor in found.tensors.items():
        if name not in weight_map:
            raise _bad_index(index, f"{tensor.file.name} holds {shown(name)}, which it leaves out")


def _bad_index(file: Path, reason: str) -> MergeError:
    return MergeError(f"{file} cannot be used: {reason}; download or save the base model again")


def _changed(file: Path) -> MergeError:
    return MergeError(
        f"{file} was changed while it was read: run the merge again when nothing writes to it"
    )
