"""An adapter that PEFT saved, as a source of LoRA. Nothing of PEFT is needed to read it."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from adapters_registry.artifacts import content_digest
from adapters_registry.errors import InvalidAdapter
from adapters_registry.safetensors_header import read_header
from adapters_registry.types import Lineage
from training.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from training.errors import MergeError
from training.merge.adapter_config import AdapterConfig, read_config
from training.merge.adapter_keys import Role, sort_tensors
from training.merge.adapter_parts import shape_of, shared_of, tokens_of
from training.merge.experts import ExpertPart, check_unfolded, is_bare, unfold
from training.merge.lora import LoraModule, LoraShape, TokenRows
from training.merge.reading import read_tensor
from training.merge.tensors import TensorInfo

if TYPE_CHECKING:  # seconds to import
    import torch

    from training.merge.names import ExpertPlace

LINEAGE_FILE = "metadata.json"


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """A LoraSource in a folder.

    sha256: of its two files, as the registry counts it. lineage: what its maker says of it.
    """

    folder: Path
    config: AdapterConfig
    sha256: str
    lineage: Lineage
    modules: Mapping[str, Mapping[Role, TensorInfo]]
    experts: Mapping[str, ExpertPart]
    shapes: Mapping[str, LoraShape]
    saved: Mapping[str, TensorInfo]
    shared: frozenset[str]
    tokens: Mapping[str, TokenRows]

    @property
    def paths(self) -> tuple[str, ...]:
        """The modules that it has LoRA for."""
        return tuple(self.shapes)

    def load(self, path: str) -> LoraModule:
        """Reads one module's part. Raises MergeError, also where it is not finite."""
        if path in self.experts:
            part = self.experts[path]
            a, b = part.load()
            a, b = _checked(a, part.a), _checked(b, part.b)
            return LoraModule(path, "linear", a, b, part.scaling)
        roles, shape = self.modules[path], self.shapes[path]
        embedding = shape.kind == "embedding"
        return LoraModule(
            path=path,
            kind=shape.kind,
            a=_read(roles["embedding_a" if embedding else "a"]),
            b=_read(roles["embedding_b" if embedding else "b"]),
            scaling=self.config.scaling_of(path),
            fan_in_fan_out=self.config.fan_in_fan_out and not embedding,
            magnitude=_read(roles["magnitude"]) if shape.magnitude else None,
            bias=_read(roles["bias"]) if shape.bias else None,
        )


def open_adapter(
    folder: Path, experts: Callable[[], Mapping[str, "ExpertPlace"]] | None = None
) -> AdapterFolder:
    """Reads the configuration and the header. Raises MergeError for what cannot be merged.

    experts: gives the base's `names.BaseNames.experts`; asked for where the adapter has LoRA on
    fused experts, and such is refused where it is None.
    """
    config = read_config(folder)
    tensors = _tensors(folder / WEIGHTS_FILE)
    fused = any(map(is_bare, config.parameters))
    places = experts() if fused and experts is not None else {}
    try:
        found = sort_tensors(tensors)
        parts, used = unfold(found.modules, config, places)
        check_unfolded(found.modules, used, config)
        plain = {path: roles for path, roles in found.modules.items() if path not in used}
        shapes = {path: shape_of(path, roles, config) for path, roles in plain.items()}
        shapes |= {path: part.shape for path, part in parts.items()}
        tokens = tokens_of(found, config)
    except MergeError as error:
        raise MergeError(f"{folder}: {error.message}") from None
    if not (shapes or tokens or found.saved):
        raise MergeError(f"{folder}: {WEIGHTS_FILE} holds no tensor: nothing was trained, or saved")
    return AdapterFolder(
        folder=folder,
        config=config,
        sha256=_sha256(folder),
        lineage=_lineage(folder / LINEAGE_FILE),
        modules=plain,
        experts=parts,
        shapes=shapes,
        saved=found.saved,
        shared=shared_of(found, config),
        tokens=tokens,
    )


def _read(info: TensorInfo) -> "torch.Tensor":
    return _checked(read_tensor(info), info)


def _checked(tensor: "torch.Tensor", info: TensorInfo) -> "torch.Tensor":
    if not bool(tensor.isfinite().all()):
        raise MergeError(f"{info.file}: {info.name} holds NaN or Inf: the training went wrong")
    return tensor


def _tensors(file: Path) -> dict[str, TensorInfo]:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise MergeError(
            f"{file} cannot be read ({error.strerror}): adapters are merged from safetensors"
        ) from error
    try:
        entries = read_header(descriptor)
    except InvalidAdapter as error:
        raise MergeError(f"{file.parent}: {error.message}") from None
    finally:
        os.close(descriptor)
    return {e.name: TensorInfo(e.name, e.dtype, e.shape, file, e.start, e.end) for e in entries}


def _sha256(folder: Path) -> str:
    hashes = {}
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        with (folder / name).open("rb") as file:
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return content_digest(hashes)


def _lineage(file: Path) -> Lineage:
    """What the trainer wrote beside the adapter, where it did."""
    try:
        found: Any = json.loads(file.read_bytes())
        return Lineage.model_validate(found.get("lineage") or {})
    except FileNotFoundError:
        return Lineage()
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        raise MergeError(
            f"{file} cannot be read as an adapter's lineage: put the one that training wrote there,"
            " or remove it"
        ) from error
