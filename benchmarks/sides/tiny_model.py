"""A base model and an adapter just large enough for the gateway's checks; the fake needs neither.

The gateway reads the model's configuration alone and checks the adapter's tensors against it.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

_RANK = 8
_LAYERS = 2
_HIDDEN = 64
_KV = 32
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": _HIDDEN,
    "intermediate_size": 128,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 4096,
}
_ADAPTER = {
    "base_model_name_or_path": None,
    "bias": "none",
    "init_lora_weights": True,
    "lora_alpha": 2 * _RANK,
    "peft_type": "LORA",
    "r": _RANK,
    "target_modules": ["q_proj", "v_proj"],
    "task_type": "CAUSAL_LM",
    "use_dora": False,
    "use_rslora": False,
}


def write_model(folder: Path) -> Path:
    """The model's folder, written once."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_CONFIG))
    return folder


def write_adapter(folder: Path, seed: int = 0) -> Path:
    """A PEFT folder with random weights for the model; another seed, another adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(_LAYERS):
        for module, rows in ("q_proj", _HIDDEN), ("v_proj", _KV):
            path = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            for part, shape in ("A", (_RANK, _HIDDEN)), ("B", (rows, _RANK)):
                weights = (random.standard_normal(shape) * 0.02).astype(np.float32)
                tensors[f"{path}.lora_{part}.weight"] = weights
    (folder / "adapter_config.json").write_text(json.dumps(_ADAPTER))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder
