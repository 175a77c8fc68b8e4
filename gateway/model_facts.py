"""What the choice of vLLM's flags needs to know of a model, read from its folder without torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model's sizes and family. Numbers that the config does not give are 0."""

    model_type: str
    architecture: str
    dtype: str | None
    quantized: bool
    chat_template: str
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    max_position: int
    """The context length it was made for, in tokens."""
    weights_bytes: int
    """On disk."""

    def weights_in_memory_bytes(self, dtype: str) -> int:
        """The weights' size once loaded as `dtype`; as on disk when quantized or `auto`."""
        ours, theirs = _DTYPE_BYTES.get(dtype), _DTYPE_BYTES.get(self.dtype or "")
        if self.quantized or ours is None or theirs is None:
            return self.weights_bytes
        return self.weights_bytes * ours // theirs

    def kv_bytes_per_token(self, dtype: str) -> int:
        """Keys and values of one token in all layers; 0 when unknown."""
        bytes_each = _DTYPE_BYTES.get(dtype, 2)
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_each

    def adapter_bytes(self, rank: int, dtype: str) -> int:
        """An adapter of `rank` on every linear layer of a dense model."""
        attention = self.heads * self.head_dim
        keys = self.kv_heads * self.head_dim
        sides = (
            2 * (self.hidden_size + attention)
            + 2 * (self.hidden_size + keys)
            + 3 * (self.hidden_size + self.intermediate_size)
        )
        return rank * self.layers * sides * _DTYPE_BYTES.get(dtype, 2)


def read_model_facts(folder: Path) -> ModelFacts:
    """The facts of the model in `folder`. Raises ValueError when config.json is missing or bad."""
    config = _read_json(folder / "config.json")
    # A model that also sees or hears keeps its language model's sizes one level down.
    text = config.get("text_config")
    sizes = {**config, **text} if isinstance(text, dict) else config
    heads = _int(sizes, "num_attention_heads")
    hidden = _int(sizes, "hidden_size")
    return ModelFacts(
        model_type=str(config.get("model_type", "")),
        architecture=str((config.get("architectures") or [""])[0]),
        dtype=sizes.get("dtype") or sizes.get("torch_dtype"),
        quantized="quantization_config" in sizes,
        chat_template=_chat_template(folder),
        layers=_int(sizes, "num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=_int(sizes, "intermediate_size"),
        heads=heads,
        kv_heads=_int(sizes, "num_key_value_heads") or heads,
        head_dim=_int(sizes, "head_dim") or (hidden // heads if heads else 0),
        max_position=_int(sizes, "max_position_embeddings"),
        weights_bytes=_weights_bytes(folder),
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text())
    except OSError as error:
        raise ValueError(f"{file.name}: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{file.name}: not JSON") from None
    if not isinstance(data, dict):
        raise ValueError(f"{file.name}: not a JSON object")
    return data


def _int(data: dict[str, Any], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) else 0


def _chat_template(folder: Path) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(errors="replace")
    try:
        template = _read_json(folder / "tokenizer_config.json").get("chat_template", "")
    except ValueError:
        return ""
    return template if isinstance(template, str) else json.dumps(template)


def _weights_bytes(folder: Path) -> int:
    """Of the first kind of weights file found: a folder may hold the same weights twice."""
    for suffix in _WEIGHT_SUFFIXES:
        if sizes := [file.stat().st_size for file in folder.glob(f"*{suffix}")]:
            return sum(sizes)
    return 0
