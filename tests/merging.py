"""Tiny models and adapters of chance, merged here, and by PEFT."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_registry.base_model import BaseModelSpec, describe
from training.merge.adapter_folder import AdapterFolder, open_adapter
from training.merge.blocks import blocks
from training.merge.checkpoint import open_checkpoint
from training.merge.layout import lay_out
from training.merge.lora import LoraSource
from training.merge.names import find_names, needs_names
from training.merge.plan import make_plan
from training.merge.quantized import Quantized
from training.merge.reading import read_tensor, torch_dtype
from training.merge.rounding import round_into
from training.merge.tensors import Plan

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

VOCABULARY = 96
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}


def save_base(folder: Path, config: "PreTrainedConfig", dtype: "torch.dtype") -> Path:
    """A model of chance."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    return folder


def load_base(folder: Path, dtype: "torch.dtype | None" = None) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM

    wanted: Any = "auto" if dtype is None else dtype
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=wanted)
    return model


def save_adapter(base: Path, folder: Path, **config: Any) -> Path:
    """An adapter of chance, by PEFT, with every tensor of its own drawn anew."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    fields = {"r": 4, "lora_alpha": 6, "init_lora_weights": False, **config}
    model = get_peft_model(load_base(base), LoraConfig(task_type="CAUSAL_LM", **fields))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_A" not in name and "lora_B" not in name:
            parameter.data += torch.randn_like(parameter).mul_(0.1)
    model.save_pretrained(str(folder))
    return folder


def plan_of(
    base: Path, source: LoraSource, quantized: Quantized | None = None
) -> tuple[Plan, BaseModelSpec]:
    """As a merge makes it."""
    tensors = open_checkpoint(base).tensors
    spec = describe(base)
    names = find_names(base, tensors).names if needs_names(tensors, spec, source) else {}
    config = json.loads((base / "config.json").read_text())
    plan = make_plan(tensors, spec, source, config=config, quantized=quantized, names=names)
    return plan, spec


def merge_here(
    base: Path,
    adapter: Path | AdapterFolder,
    quantized: Quantized | None = None,
    elements: int = 1000,
) -> "dict[str, torch.Tensor]":
    """The merged tensors, by their names in the base's files."""
    source = open_with_experts(base, adapter) if isinstance(adapter, Path) else adapter
    plan, _ = plan_of(base, source, quantized)
    return computed(plan, base, elements)


def open_with_experts(base: Path, adapter: Path) -> AdapterFolder:
    """As a merge opens it."""
    return open_adapter(adapter, lambda: find_names(base, open_checkpoint(base).tensors).experts)


def computed(plan: Plan, base: Path, elements: int = 1000) -> "dict[str, torch.Tensor]":
    """A plan's tensors, in blocks of so many elements."""
    import torch

    tensors = open_checkpoint(base).tensors
    shards = lay_out(plan.outputs, tensors, dtype="base", max_shard_bytes=10**9, metadata={})
    found: dict[str, list[torch.Tensor]] = {}
    for block in (block for shard in shards for block in blocks(shard, elements)):
        output = block.tensor.output
        values = read_tensor(output.source, block.rows)
        if output.update is not None:
            values = output.update.apply(values.float(), block.start)
        rounded = torch.empty(values.shape, dtype=torch_dtype(block.tensor.dtype))
        round_into(rounded.view(-1), values.reshape(-1), output.name)
        found.setdefault(output.name, []).append(rounded)
    return {name: torch.cat(rounded) for name, rounded in found.items()}


def merge_by_peft(
    base: Path, adapter: Path, out: Path | None, dtype: "torch.dtype | None" = None
) -> "Mapping[str, torch.Tensor]":
    """What `merge_and_unload` makes, under the names that it is saved with in `out`.

    Without `out` nothing is saved, and the names are the model's.
    """
    from peft import PeftModel
    from safetensors.torch import load_file

    model = PeftModel.from_pretrained(load_base(base, dtype), adapter)
    if dtype is not None:
        model.to(dtype)
    merged = model.merge_and_unload()
    if out is None:
        state: Mapping[str, torch.Tensor] = merged.state_dict()
        return state
    merged.save_pretrained(out)
    return load_file(out / "model.safetensors")
