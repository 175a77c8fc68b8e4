"""Adapters for tests: PEFT folders, good and bad, made from a description of the base model."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from adapters_registry.artifacts import CONFIG_FILE, WEIGHTS_FILE
from adapters_registry.base_model import BaseModelSpec, ModuleSpec

Array = npt.NDArray[Any]

TARGETS = ("q_proj", "v_proj")


def tiny_base(
    *, architecture: str = "LlamaForCausalLM", name: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
) -> BaseModelSpec:
    """Two layers of a Llama, small enough to make hundreds of adapters for."""
    modules = {
        "model.embed_tokens": ModuleSpec(kind="embedding", out_features=16, in_features=64),
        "lm_head": ModuleSpec(kind="linear", out_features=64, in_features=16),
    }
    shapes = {"q_proj": (16, 16), "v_proj": (8, 16), "o_proj": (16, 16)}
    for layer in range(2):
        for last, (rows, columns) in shapes.items():
            path = f"model.layers.{layer}.self_attn.{last}"
            modules[path] = ModuleSpec(kind="linear", out_features=rows, in_features=columns)
    return BaseModelSpec(
        name=name,
        architecture=architecture,
        model_type="llama",
        config_sha256="0" * 64,
        modules=modules,
        max_model_len=2048,
        chat_template=None,
    )


def make_config(base: BaseModelSpec, *, rank: int = 4, **changes: Any) -> dict[str, Any]:
    """What PEFT would save, with `changes`; a change to None takes the field out."""
    config: dict[str, Any] = {
        "base_model_name_or_path": base.name,
        "bias": "none",
        "init_lora_weights": True,
        "lora_alpha": 2 * rank,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": list(TARGETS),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    config.update(changes)
    return {field: value for field, value in config.items() if value is not None}


def make_tensors(
    base: BaseModelSpec,
    *,
    rank: int = 4,
    targets: tuple[str, ...] = TARGETS,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
    scale: float = 0.02,
) -> dict[str, Array]:
    """Random A and B for every module whose last name is in `targets`."""
    random = np.random.default_rng(seed)

    def matrix(*shape: int) -> Array:
        return (random.standard_normal(shape) * scale).astype(dtype)

    tensors = {}
    for path, spec in base.modules.items():
        if path.rpartition(".")[2] not in targets:
            continue
        a, b = (
            ("lora_embedding_A", "lora_embedding_B")
            if spec.kind == "embedding"
            else ("lora_A.weight", "lora_B.weight")
        )
        tensors[f"base_model.model.{path}.{a}"] = matrix(rank, spec.in_features)
        tensors[f"base_model.model.{path}.{b}"] = matrix(spec.out_features, rank)
    return tensors


def write_adapter(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Array]) -> Path:
    """Writes the two files, as PEFT would."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    save_file(dict(tensors), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    return folder


def good_adapter(
    folder: Path, base: BaseModelSpec, *, rank: int = 4, seed: int = 0, **changes: Any
) -> Path:
    """An adapter that passes. Another seed, another content."""
    tensors = make_tensors(base, rank=rank, seed=seed)
    return write_adapter(folder, make_config(base, rank=rank, **changes), tensors)


def raw_safetensors(header: bytes | Mapping[str, Any], data: bytes = b"") -> bytes:
    """A safetensors file by hand: any header before any data."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + data
