"""adapter_config.json: read within bounds, and checked against what vLLM applies.

What vLLM would refuse (`vllm/lora/peft_helper.py`) or quietly leave out is refused here, with a
reason. The rest of PEFT's fields only matter in training.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from adapters_registry.artifacts import CONFIG_FILE, open_plain
from adapters_registry.errors import InvalidAdapter
from adapters_registry.safetensors_header import DuplicateKey, shown, unique_keys
from adapters_registry.vllm_support import PLAIN_INITS

MAX_CONFIG_BYTES = 2**20

_Value = TypeVar("_Value")

# PEFT reads the keys of its patterns as regular expressions, and so does the engine, in the loop
# that serves everybody. A key here is text, perhaps tied to the start: nothing that can run away.
_PATTERN_KEY = re.compile(r"\^?(?:[A-Za-z0-9_-]|\\?\.)+")

_UNSUPPORTED = {
    "auto_map": "names code to run, which is never done: remove it",
    "use_dora": "vLLM does not apply DoRA: train with use_dora=False",
    "lora_bias": "vLLM does not apply a bias of LoRA: train with lora_bias=False",
    "alora_invocation_tokens": "vLLM does not apply activated LoRA: train a plain LoRA",
    "layer_replication": "vLLM does not replicate layers: train without it",
    "modules_to_save": "vLLM does not take fully trained modules: train them with LoRA instead",
    "trainable_token_indices": "vLLM does not take trained tokens: train without it",
    "use_bdlora": "vLLM does not apply block-diagonal LoRA: train a plain LoRA",
    "use_qalora": "vLLM does not apply QALoRA: train a plain LoRA",
    "target_parameters": "adapters of bare parameters are not supported: use target_modules",
    "arrow_config": "vLLM does not route between LoRAs: train a plain LoRA",
    "monteclora_config": "vLLM does not apply MonteCLoRA: train a plain LoRA",
    "kasa_config": "vLLM does not apply KaSA: train a plain LoRA",
}
_QUANTIZED = re.compile(r"(4|8)-?bit|int[48]|fp8|nf4|gptq|awq|gguf|bnb", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """What of the configuration bears on serving."""

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    base_name: str | None
    quantization: str | None
    ties_embeddings: bool

    def rank_of(self, module: str) -> int:
        """The rank at a module's path, as PEFT and vLLM find it."""
        return _match(self.rank_pattern, module, self.rank)

    def alpha_of(self, module: str) -> float:
        """The alpha at a module's path, as PEFT and vLLM find it."""
        return _match(self.alpha_pattern, module, self.alpha)

    def max_rank(self) -> int:
        """The highest rank named."""
        return max(self.rank, *self.rank_pattern.values(), 0)


def read_config(folder: Path, max_rank: int) -> LoraConfig:
    """The checked configuration of the adapter in `folder`. Raises InvalidAdapter."""
    config = _load(folder / CONFIG_FILE)
    for field, reason in _UNSUPPORTED.items():
        if config.get(field):
            raise refuse(field, reason)
    _check_kind(config)
    return LoraConfig(
        rank=_rank(config.get("r"), "r", max_rank),
        alpha=_alpha(config.get("lora_alpha"), "lora_alpha"),
        rank_pattern={
            key: _rank(value, f"rank_pattern.{key}", max_rank)
            for key, value in _pattern(config, "rank_pattern").items()
        },
        alpha_pattern={
            key: _alpha(value, f"alpha_pattern.{key}")
            for key, value in _pattern(config, "alpha_pattern").items()
        },
        base_name=_base_name(config),
        quantization=_quantization(config),
        ties_embeddings=bool(config.get("ensure_weight_tying")),
    )


def refuse(field: str, reason: str) -> InvalidAdapter:
    """The refusal of one field."""
    return InvalidAdapter(f"{CONFIG_FILE}: {shown(field)[1:-1]}: {reason}", field=field)


def _load(file: Path) -> dict[str, Any]:
    try:
        with os.fdopen(open_plain(file), "rb") as source:
            if os.fstat(source.fileno()).st_size > MAX_CONFIG_BYTES:
                raise _refuse_file(f"is larger than {MAX_CONFIG_BYTES} bytes")
            content = source.read(MAX_CONFIG_BYTES)
    except OSError as error:
        raise _refuse_file(f"cannot be read: {error.strerror}") from None
    try:
        config = json.loads(content.decode(), object_pairs_hook=unique_keys)
    except DuplicateKey as error:
        raise _refuse_file(f"names {shown(error.key)} twice") from None
    except (ValueError, RecursionError):
        raise _refuse_file("is not valid JSON") from None
    if not isinstance(config, dict):
        raise _refuse_file("must be a JSON object")
    return config


def _refuse_file(reason: str) -> InvalidAdapter:
    return InvalidAdapter(f"{CONFIG_FILE}: {reason}", field=CONFIG_FILE)


def _check_kind(config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise refuse("peft_type", 'must be "LORA": other kinds of adapter cannot be served')
    if config.get("bias", "none") != "none":
        raise refuse("bias", 'must be "none": vLLM does not take trained biases')
    if "target_modules" not in config:
        raise refuse("target_modules", "is missing, and vLLM wants it: save with PEFT")
    for field in ("use_rslora", "use_dora"):
        if not isinstance(config.get(field, False), bool):
            raise refuse(field, "must be true or false")
    init = config.get("init_lora_weights", True)
    plain = init.lower() in PLAIN_INITS if isinstance(init, str) else init in (True, False, None)
    if not plain:
        raise refuse(
            "init_lora_weights",
            f"{shown(str(init))} changes the base's weights, which stay as they are here: save the"
            " adapter with path_initial_model_for_weight_conversion, which makes it a plain LoRA",
        )


def _rank(value: object, field: str, max_rank: int) -> int:
    if type(value) is not int or value < 1:
        raise refuse(field, "must be a whole number from 1")
    if value > max_rank:
        raise refuse(
            field,
            f"rank {value} is above the highest served, {max_rank}: train with a lower rank, or"
            " serve with a higher --max-lora-rank",
        )
    return value


def _alpha(value: object, field: str) -> float:
    # A whole number may be too large for a float.
    if type(value) not in (int, float) or not _is_finite(value):  # type: ignore[arg-type]
        raise refuse(field, "must be a finite number")
    return float(value)  # type: ignore[arg-type]


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _pattern(config: dict[str, Any], field: str) -> dict[str, Any]:
    found = config.get(field) or {}
    if not isinstance(found, dict):
        raise refuse(field, "must be an object of module names")
    for key in found:
        if _PATTERN_KEY.fullmatch(key) is None:
            raise refuse(f"{field}.{key}", "must be a module's name, not a regular expression")
    return found


def _match(pattern: Mapping[str, _Value], module: str, default: _Value) -> _Value:
    """PEFT's rule: a key fits the end of a path from a dot on, the first that fits counts."""
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _base_name(config: dict[str, Any]) -> str | None:
    name = config.get("base_model_name_or_path")
    return name if isinstance(name, str) and name else None


def _quantization(config: dict[str, Any]) -> str | None:
    if config.get("quantization_config"):
        return "quantization_config"
    found = _QUANTIZED.search((_base_name(config) or "").rsplit("/", 1)[-1])
    return found[0] if found else None
