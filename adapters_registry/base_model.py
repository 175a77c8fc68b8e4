"""What an adapter is checked against: the base model's modules, their shapes, its template.

Run as a program it describes a model: `python -m adapters_registry.base_model MODEL_DIR OUT`.
"""

import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from adapters_registry.child import CHILD_FLAG, run_child, serve_parent
from adapters_registry.errors import ModelError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

_FORMAT = 3
_TOKENIZER_FILE = "tokenizer.json"
_FILES = ("config.json", "tokenizer_config.json", "chat_template.jinja", _TOKENIZER_FILE)
_HUB_SNAPSHOT = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([^/]+)$")


class ModuleSpec(BaseModel):
    """A module that LoRA can adapt. An embedding has `in_features` rows of `out_features`."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["linear", "embedding"]
    out_features: int
    in_features: int
    fan_in_fan_out: bool = False
    """Whether the weight is kept as (in_features, out_features), as GPT-2 does."""


class BaseModelSpec(BaseModel):
    """A base model as adapters see it. Made from its config alone: no weights are read."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Its Hub id where that is known, otherwise its folder's name."""
    architecture: str
    model_type: str
    config_sha256: str
    modules: dict[str, ModuleSpec]
    """By full path, as in `model.layers.0.self_attn.q_proj`."""
    max_model_len: int | None
    chat_template: str | None
    revision: str | None = None
    """The Hub's commit, where that is known."""
    quantization: str | None = None
    """The method, as the configuration names it."""
    rope_scaling: dict[str, JsonValue] | None = None
    tokenizer_sha256: str | None = None
    """Of tokenizer.json."""
    embedding: str | None = None
    """The path of the input embedding."""
    head: str | None = None
    """The path of the output head."""
    tied: bool = False
    """Whether the two share one weight."""

    @property
    def chat_template_sha256(self) -> str | None:
        """Of the default template's text."""
        if self.chat_template is None:
            return None
        return hashlib.sha256(self.chat_template.encode()).hexdigest()


def describe(model_dir: Path) -> BaseModelSpec:
    """Builds the model without memory for weights and lists its modules. Imports torch.

    Code that comes with a model is never run. Raises ModelError.
    """
    config_bytes = _read_config(model_dir)
    config, model = build(model_dir)
    text_config = config.get_text_config()
    embedding = model.get_input_embeddings()
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return BaseModelSpec(
        name=_name(model_dir, config_bytes),
        architecture=(config.architectures or [type(model).__name__])[0],
        model_type=config.model_type,
        config_sha256=hashlib.sha256(config_bytes).hexdigest(),
        modules=_modules(model),
        max_model_len=getattr(text_config, "max_position_embeddings", None),
        chat_template=_chat_template(model_dir),
        revision=_revision(model_dir),
        quantization=_quantization(_json_object(config_bytes)),
        rope_scaling=_rope_scaling(_json_object(config_bytes)),
        tokenizer_sha256=_tokenizer_sha256(model_dir),
        embedding=_path(model, embedding),
        head=_path(model, head),
        tied=head is not None and head.weight is getattr(embedding, "weight", None),
    )


def load_spec(model_dir: Path, cache_dir: Path) -> BaseModelSpec:
    """`describe` in a process of its own, so that the caller never imports torch.

    Kept in `cache_dir` under a digest of the model's configuration. Raises ModelError.
    """
    cached = cache_dir / "base-models" / f"{_cache_key(model_dir)}.json"
    try:
        return BaseModelSpec.model_validate_json(cached.read_bytes())
    except (OSError, ValidationError):
        pass
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"the cache folder cannot be made: {error.strerror}") from error
    run_child("adapters_registry.base_model", [str(model_dir), str(cached)])
    try:
        return BaseModelSpec.model_validate_json(cached.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelError("the description of the base model cannot be read back") from error


def _cache_key(model_dir: Path) -> str:
    """Of all that a description is made from, so a changed model is described anew."""
    sha256 = hashlib.sha256(f"{_FORMAT}\n{_name(model_dir, _read_config(model_dir))}\n".encode())
    for name in _FILES:
        file = model_dir / name
        content = file.read_bytes() if file.is_file() else b""
        sha256.update(f"{name} {len(content)}\n".encode() + content)
    return sha256.hexdigest()


def _read_config(model_dir: Path) -> bytes:
    try:
        return (model_dir / "config.json").read_bytes()
    except OSError as error:
        raise ModelError(
            f"the model folder {model_dir.name!r} holds no readable config.json ({error.strerror}):"
            " name a folder with a model in the Hugging Face format"
        ) from error


def build(model_dir: Path) -> "tuple[PreTrainedConfig, PreTrainedModel]":
    """The model's configuration, and the model without memory for weights. Imports transformers.

    Code that comes with a model is never run. Raises ModelError.
    """
    try:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError as error:
        raise ModelError(
            f"{error.name} is not installed: pip install 'loraplex[cpu]' or 'loraplex[cuda]'"
        ) from error
    try:
        config = AutoConfig.from_pretrained(
            model_dir, trust_remote_code=False, local_files_only=True
        )
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, trust_remote_code=False
            )
    except Exception as error:  # a strange config can make the library raise anything
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"the base model's config.json cannot be used: {first_line}") from error
    return config, model


def _modules(model: "nn.Module") -> dict[str, ModuleSpec]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    found: dict[str, ModuleSpec] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            shape = module.out_features, module.in_features
            found[path] = ModuleSpec(kind="linear", out_features=shape[0], in_features=shape[1])
        elif isinstance(module, Conv1D):
            rows, columns = module.weight.shape
            found[path] = ModuleSpec(
                kind="linear", out_features=columns, in_features=rows, fan_in_fan_out=True
            )
        elif isinstance(module, nn.Embedding):
            rows, columns = module.num_embeddings, module.embedding_dim
            found[path] = ModuleSpec(kind="embedding", out_features=columns, in_features=rows)
    return found


def _path(model: "nn.Module", wanted: "nn.Module | None") -> str | None:
    if wanted is None:
        return None
    return next((path for path, module in model.named_modules() if module is wanted), None)


def _name(model_dir: Path, config_bytes: bytes) -> str:
    if hub := _HUB_SNAPSHOT.search(str(model_dir.resolve())):
        return f"{hub[1]}/{hub[2]}"
    named = _json_object(config_bytes).get("_name_or_path")
    if isinstance(named, str) and named and not named.startswith(("/", ".", "~")):
        return named
    return model_dir.resolve().name


def _revision(model_dir: Path) -> str | None:
    hub = _HUB_SNAPSHOT.search(str(model_dir.resolve()))
    return hub[3] if hub else None


def _quantization(config: dict[str, Any]) -> str | None:
    found = config.get("quantization_config")
    method = found.get("quant_method") if isinstance(found, dict) else None
    return method if isinstance(method, str) else None


def _rope_scaling(config: dict[str, Any]) -> dict[str, JsonValue] | None:
    """Older configurations name it `rope_scaling`, newer ones keep it in `rope_parameters`."""
    found = config.get("rope_scaling") or config.get("rope_parameters")
    if not isinstance(found, dict):
        return None
    scaling = {name: value for name, value in found.items() if name != "rope_theta"}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    return None if kind == "default" else scaling


def _tokenizer_sha256(model_dir: Path) -> str | None:
    try:
        content = (model_dir / _TOKENIZER_FILE).read_bytes()
    except FileNotFoundError:
        return None
    return hashlib.sha256(content).hexdigest()


def _chat_template(model_dir: Path) -> str | None:
    """The default template: a file of its own, or a field of the tokenizer's configuration."""
    try:
        return (model_dir / "chat_template.jinja").read_text()
    except FileNotFoundError:
        pass
    try:
        found = _json_object((model_dir / "tokenizer_config.json").read_bytes())
    except FileNotFoundError:
        return None
    template = found.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise ModelError(f"the base model's configuration is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError("the base model's configuration is not a JSON object")
    return found


def _write(spec: BaseModelSpec, out: Path) -> None:
    """Whole or not at all, also when two processes write the same description."""
    aside = out.with_name(f"{out.name}.{os.getpid()}")
    aside.write_text(spec.model_dump_json(indent=1))
    aside.replace(out)


def main() -> int:
    """Describes the model in the first argument into the file in the second."""
    paths = [Path(word) for word in sys.argv[1:] if word != CHILD_FLAG]
    if len(paths) != 2:
        sys.stderr.write("usage: python -m adapters_registry.base_model MODEL_DIR OUT\n")
        return 2
    return serve_parent(lambda _report: _write(describe(paths[0]), paths[1]))


if __name__ == "__main__":
    sys.exit(main())
