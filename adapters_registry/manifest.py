"""Whether an adapter's files are what they say, fit the base model, and would change its answers.

vLLM loads many broken adapters without a word and then answers as the base does: a module path
that does not exist (it looks at the last name alone), tensors that are too small, zeros. Here
every tensor must belong to a module of the base, in exactly its shape.
"""

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters_registry.adapter_config import LoraConfig, read_config, refuse
from adapters_registry.artifacts import CONFIG_FILE, WEIGHTS_FILE, open_plain
from adapters_registry.base_model import BaseModelSpec, ModuleSpec
from adapters_registry.errors import InvalidAdapter
from adapters_registry.safetensors_header import TensorEntry, read_header, shown
from adapters_registry.tensor_scan import scan
from adapters_registry.vllm_support import EMBEDDING_LORA

_PREFIX = "base_model.model."
_TENSOR = re.compile(
    r"base_model\.model\.(?P<module>.+)\."
    r"(?:lora_(?P<linear>[AB])\.weight|lora_embedding_(?P<embedding>[AB]))"
)
_SHOWN_WARNINGS = 8


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was found out about a good adapter."""

    rank: int
    """The highest rank of any module."""
    size_bytes: int
    """Of the two files together."""
    warnings: tuple[str, ...]
    alpha: float
    dtypes: tuple[str, ...]
    modules: int
    """How many modules are adapted."""
    targets: tuple[str, ...]
    """The adapted modules' last names."""

    def summary(self) -> dict[str, object]:
        """What is kept beside the version's own columns."""
        return {
            "alpha": self.alpha,
            "dtypes": list(self.dtypes),
            "modules": self.modules,
            "targets": list(self.targets),
        }


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two tensors of one adapted module."""

    module: str
    spec: ModuleSpec
    a: TensorEntry
    b: TensorEntry


def check_adapter(folder: Path, base: BaseModelSpec, max_rank: int) -> Manifest:
    """Checks `adapter_config.json` and `adapter_model.safetensors` in `folder`.

    Raises InvalidAdapter, which names the field or the tensor and the fix.
    """
    config = read_config(folder, max_rank)
    try:
        descriptor = open_plain(folder / WEIGHTS_FILE)
    except OSError as error:
        raise InvalidAdapter(
            f"{WEIGHTS_FILE}: cannot be read: {error.strerror}", field=WEIGHTS_FILE
        ) from None
    try:
        tensors = read_header(descriptor)
        pairs = _pairs(tensors, base)
        for pair in pairs:
            _check_shapes(pair, config)
        _check_tying(pairs, config)
        _check_values(descriptor, pairs, config)
        size_bytes = os.fstat(descriptor).st_size + (folder / CONFIG_FILE).stat().st_size
    finally:
        os.close(descriptor)
    return Manifest(
        rank=max(pair.a.shape[0] for pair in pairs),
        size_bytes=size_bytes,
        warnings=tuple(_warnings(pairs, config, base)),
        alpha=config.alpha,
        dtypes=tuple(sorted({tensor.dtype for tensor in tensors})),
        modules=len(pairs),
        targets=tuple(sorted({pair.module.rpartition(".")[2] for pair in pairs})),
    )


def _refuse(name: str, reason: str) -> InvalidAdapter:
    return InvalidAdapter(f"{WEIGHTS_FILE}: {shown(name)} {reason}", field=name)


def _pairs(tensors: Sequence[TensorEntry], base: BaseModelSpec) -> list[_Pair]:
    if not tensors:
        raise InvalidAdapter(
            f"{WEIGHTS_FILE}: holds no tensors: save the adapter after training", field=WEIGHTS_FILE
        )
    sides: dict[str, dict[str, TensorEntry]] = {}
    for tensor in tensors:
        module, side = _place(tensor.name, base)
        sides.setdefault(module, {})[side] = tensor
    for found in sides.values():
        for side, other in (("A", "B"), ("B", "A")):
            if side not in found:
                raise _refuse(found[other].name, f"has no lora_{side} beside it: save both")
    return [_Pair(name, base.modules[name], s["A"], s["B"]) for name, s in sides.items()]


def _place(name: str, base: BaseModelSpec) -> tuple[str, str]:
    """The module a tensor belongs to and its side, A or B."""
    found = _TENSOR.fullmatch(name)
    if found is None:
        raise _refuse(name, _why_not_lora(name))
    module = found["module"]
    spec = base.modules.get(module)
    if spec is None:
        raise _refuse(name, f"adapts no module of the base model{_nearest(module, base)}")
    if (spec.kind == "embedding") != (found["embedding"] is not None):
        wanted = "lora_embedding_A/B" if spec.kind == "embedding" else "lora_A/B.weight"
        raise _refuse(name, f"is of the wrong kind: PEFT calls this module's tensors {wanted}")
    last = module.rpartition(".")[2]
    is_embedding = spec.kind == "embedding" or last == "lm_head"
    if is_embedding and last not in EMBEDDING_LORA.get(base.architecture, ()):
        raise _refuse(
            name,
            f"adapts {last}, which vLLM does not support for {base.architecture}: train without it",
        )
    return module, found["linear"] or found["embedding"]


def _why_not_lora(name: str) -> str:
    if not name.startswith(_PREFIX):
        return f"does not start with {_PREFIX!r}: save the adapter with PEFT's save_pretrained"
    if re.search(r"\.lora_([AB]\.[^.]+\.weight|embedding_[AB]\.[^.]+)$", name):
        return "carries PEFT's name of the adapter in it: save with save_pretrained"
    if name.endswith("lora_magnitude_vector") or ".lora_magnitude_vector." in name:
        return "belongs to DoRA, which vLLM does not apply: train with use_dora=False"
    return (
        "is no LoRA matrix, and vLLM would refuse or ignore it: train without modules_to_save and"
        " save with save_embedding_layers=False"
    )


def _nearest(module: str, base: BaseModelSpec) -> str:
    close = difflib.get_close_matches(module[:200], base.modules, n=1, cutoff=0.4)
    return f"; the nearest is {close[0]}" if close else ": train on the model that is served"


def _check_shapes(pair: _Pair, config: LoraConfig) -> None:
    """A: rank x in. B: out x rank. For an embedding, in is the vocabulary."""
    rank = config.rank_of(pair.module)
    for tensor, wanted in (
        (pair.a, (rank, pair.spec.in_features)),
        (pair.b, (pair.spec.out_features, rank)),
    ):
        if tensor.shape == wanted:
            continue
        raise _refuse(
            tensor.name,
            f"has shape {list(tensor.shape)}, wanted is {list(wanted)} (rank {rank} by"
            f" {CONFIG_FILE}, the rest by the base model): train on the model that is served, and"
            " upload both files of one save",
        )


def _check_tying(pairs: Sequence[_Pair], config: LoraConfig) -> None:
    """With `ensure_weight_tying` one saved pair stands for two modules; vLLM applies it to one."""
    adapts_head = any(pair.module.rpartition(".")[2] == "lm_head" for pair in pairs)
    adapts_embedding = any(pair.spec.kind == "embedding" for pair in pairs)
    if config.ties_embeddings and adapts_head != adapts_embedding:
        raise refuse(
            "ensure_weight_tying",
            "ties lm_head's adapter to the embeddings', and vLLM keeps them apart: train with"
            " ensure_weight_tying=False",
        )


def _check_values(descriptor: int, pairs: Sequence[_Pair], config: LoraConfig) -> None:
    changes_something = False
    for pair in pairs:
        scans = [scan(descriptor, tensor) for tensor in (pair.a, pair.b)]
        for tensor, found in zip((pair.a, pair.b), scans, strict=True):
            if not found.all_finite:
                raise _refuse(tensor.name, "holds NaN or infinity: the training diverged")
        if config.alpha_of(pair.module) != 0 and all(found.any_nonzero for found in scans):
            changes_something = True
    if not changes_something:
        raise InvalidAdapter(
            f"{WEIGHTS_FILE}: changes nothing: in every module lora_A, lora_B or alpha is zero, so"
            " it would answer as the base model does. Train it first",
            field=WEIGHTS_FILE,
        )


def _warnings(pairs: Sequence[_Pair], config: LoraConfig, base: BaseModelSpec) -> list[str]:
    found = []
    if config.base_name is not None and _last_name(config.base_name) != _last_name(base.name):
        trained = shown(config.base_name.rstrip("/").rsplit("/", 1)[-1])
        found.append(
            f"base_model_name_or_path: trained on {trained}, served on {shown(_short(base.name))};"
            " the shapes agree"
        )
    if config.quantization is not None:
        found.append(
            f"trained on a quantized base ({shown(config.quantization)}): answers may differ a"
            " little from those in training"
        )
    partial = _partial(pairs, base)
    if partial:
        more = len(partial) - _SHOWN_WARNINGS
        listed = ", ".join(partial[:_SHOWN_WARNINGS]) + (f" and {more} more" if more > 0 else "")
        found.append(f"adapts only some layers: {listed}")
    return found


def _last_name(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].casefold()


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1]


def _partial(pairs: Sequence[_Pair], base: BaseModelSpec) -> list[str]:
    """Kinds of module adapted in some layers and not in others, as `*.q_proj in 3 of 30`."""
    adapted = {pair.module for pair in pairs}
    layers: dict[str, list[str]] = {}
    for module in base.modules:
        layers.setdefault(re.sub(r"\.\d+\.", ".*.", module), []).append(module)
    found = []
    for kind, modules in layers.items():
        count = sum(module in adapted for module in modules)
        if 0 < count < len(modules):
            found.append(f"{kind.rpartition('*.')[2]} in {count} of {len(modules)}")
    return found
