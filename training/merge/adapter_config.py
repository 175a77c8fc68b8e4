"""An adapter's `adapter_config.json`: what of it decides what the adapter adds to its base."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from adapters_registry.safetensors_header import DuplicateKey, shown, unique_keys
from adapters_registry.vllm_support import PLAIN_INITS
from training.adapter_files import CONFIG_FILE
from training.errors import MergeError

_Value = TypeVar("_Value")

_NO_MERGE = {
    "layer_replication": "repeats layers of the base, which the merged model would have to do too",
    "alora_invocation_tokens": "makes it an activated LoRA, which works on a part of each prompt",
    "use_bdlora": "makes it a block-diagonal LoRA: convert it to a plain one with PEFT",
    "use_qalora": "makes it a QALoRA, which belongs to a quantized base",
    "arrow_config": "routes between LoRAs token by token, which no single weight can do",
    "kasa_config": "makes it a KaSA, which cuts the base's weights when it is loaded",
    "auto_map": "names code to run, which is never done: remove it",
}
"""Fields that, set, make an adapter one that has no plain merge."""


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What a merge needs of the configuration.

    base_name, revision: of the base, as its maker wrote them. ranks, alphas: PEFT's patterns.
    modules_to_save: names of the modules that are saved whole. token_indices: trained rows by the
    name of their module; the empty name is the input embedding. parameters: names of the bare
    parameters that LoRA was put on. init: how the weights began. task: PEFT's task type.
    """

    base_name: str | None
    revision: str | None
    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    rslora: bool
    dora: bool
    fan_in_fan_out: bool
    modules_to_save: tuple[str, ...]
    token_indices: Mapping[str, tuple[int, ...]]
    parameters: tuple[str, ...]
    init: str | None
    task: str | None

    def scaling_of(self, module: str) -> float:
        """What PEFT multiplies B @ A with at a module's path."""
        rank = _match(self.ranks, module, self.rank)
        alpha = _match(self.alphas, module, self.alpha)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank

    def rank_of(self, module: str) -> int:
        """The rank at a module's path."""
        return _match(self.ranks, module, self.rank)


def read_config(folder: Path) -> AdapterConfig:
    """Raises MergeError for what is no LoRA, or a LoRA without a defined merge."""
    file = folder / CONFIG_FILE
    config = _load(file)
    try:
        return _checked(config)
    except MergeError as error:
        raise MergeError(f"{file}: {error.message}") from None


def _checked(config: Mapping[str, Any]) -> AdapterConfig:
    _check_kind(config)
    init = config.get("init_lora_weights")
    return AdapterConfig(
        base_name=_text(config, "base_model_name_or_path"),
        revision=_text(config, "revision"),
        rank=_rank(config.get("r"), "r"),
        alpha=_number(config.get("lora_alpha"), "lora_alpha"),
        ranks={k: _rank(v, f"rank_pattern.{k}") for k, v in _pattern(config, "rank_pattern")},
        alphas={k: _number(v, f"alpha_pattern.{k}") for k, v in _pattern(config, "alpha_pattern")},
        rslora=_flag(config, "use_rslora"),
        dora=_flag(config, "use_dora"),
        fan_in_fan_out=_flag(config, "fan_in_fan_out"),
        modules_to_save=_names(config, "modules_to_save"),
        token_indices=_token_indices(config.get("trainable_token_indices")),
        parameters=_names(config, "target_parameters"),
        init=init.lower() if isinstance(init, str) else None,
        task=_text(config, "task_type"),
    )


def _load(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_bytes(), object_pairs_hook=unique_keys)
    except OSError as error:
        raise MergeError(
            f"{file} cannot be read ({error.strerror}): name the folder of an adapter that PEFT"
            " saved"
        ) from error
    except DuplicateKey as error:
        raise MergeError(f"{file} names {shown(error.key)} twice: save the adapter again") from None
    except (ValueError, RecursionError):
        raise MergeError(f"{file} is not valid JSON: save the adapter again") from None
    if not isinstance(config, dict):
        raise MergeError(f"{file} must be a JSON object: save the adapter again")
    return config


def _check_kind(config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise MergeError(
            f"peft_type: {shown(str(kind))} is not merged here: a LoRA (with rsLoRA or DoRA) is;"
            " PEFT's convert_to_lora makes one of most other kinds"
        )
    for field, reason in _NO_MERGE.items():
        if config.get(field):
            raise MergeError(f"{field}: {reason}")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in PLAIN_INITS:
        raise MergeError(
            f"init_lora_weights: {shown(init)} changed the base's weights when training began, so"
            " the adapter does not fit the base as it is: save it with"
            " path_initial_model_for_weight_conversion, which makes it a plain LoRA"
        )


def _rank(value: object, field: str) -> int:
    if type(value) is not int or value < 1:
        raise MergeError(f"{field}: must be a whole number from 1")
    return value


def _number(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise MergeError(f"{field}: must be a finite number")
    return float(value)


def _flag(config: Mapping[str, Any], field: str) -> bool:
    value = config.get(field) or False
    if not isinstance(value, bool):
        raise MergeError(f"{field}: must be true or false")
    return value


def _text(config: Mapping[str, Any], field: str) -> str | None:
    value = config.get(field)
    return value if isinstance(value, str) and value else None


def _names(config: Mapping[str, Any], field: str) -> tuple[str, ...]:
    value = config.get(field) or []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise MergeError(f"{field}: must be a list of names")
    return tuple(value)


def _pattern(config: Mapping[str, Any], field: str) -> list[tuple[str, object]]:
    value = config.get(field) or {}
    if not isinstance(value, dict):
        raise MergeError(f"{field}: must be an object of module names")
    for key in value:
        try:
            re.compile(key)
        except re.error:
            raise MergeError(f"{field}: {shown(key)} is no regular expression") from None
    return list(value.items())


def _token_indices(value: object) -> dict[str, tuple[int, ...]]:
    named = value if isinstance(value, dict) else {"": value} if value else {}
    found: dict[str, tuple[int, ...]] = {}
    for name, indices in named.items():
        if not isinstance(indices, list) or not all(type(i) is int and i >= 0 for i in indices):
            raise MergeError("trainable_token_indices: must be lists of token numbers")
        found[name] = tuple(indices)
    return found


def _match(pattern: Mapping[str, _Value], module: str, default: _Value) -> _Value:
    """PEFT's rule: a key fits the end of a path from a dot on, the first that fits counts."""
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default
