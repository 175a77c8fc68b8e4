"""Adapters for the embedded model with random weights: small, each another, none without effect."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from adapters_registry.base_model import BaseModelSpec

_TARGETS = ("q_proj", "v_proj")
_SPREAD = 0.05


def make_adapter(folder: Path, base: BaseModelSpec, *, rank: int, seed: int) -> Path:
    """A PEFT folder in float16 on every layer's q_proj and v_proj."""
    folder.mkdir(parents=True)
    random = np.random.default_rng([rank, seed])
    tensors = {}
    for path, module in base.modules.items():
        if path.rpartition(".")[2] in _TARGETS:
            for part, shape in (
                ("A", (rank, module.in_features)),
                ("B", (module.out_features, rank)),
            ):
                values = random.standard_normal(shape, dtype=np.float32) * _SPREAD
                name = f"base_model.model.{path}.lora_{part}.weight"
                tensors[name] = values.astype(np.float16)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "base_model_name_or_path": base.name,
        "bias": "none",
        "init_lora_weights": True,
        "lora_alpha": 2 * rank,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": [*_TARGETS],
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
