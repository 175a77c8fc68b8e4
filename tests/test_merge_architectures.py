"""Merges of random models: nearer to the exact sum than PEFT's, in every tensor."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.merging import SIZES, VOCABULARY, merge_by_peft, merge_here, save_adapter, save_base
from training.errors import MergeError
from training.merge.adapter_folder import open_adapter
from training.merge.checkpoint import open_checkpoint
from training.merge.reading import read_tensor

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

pytestmark = pytest.mark.filterwarnings("ignore")


def _config(kind: str, tied: bool) -> "PreTrainedConfig":
    import transformers

    sizes: dict[str, Any] = {**SIZES, "tie_word_embeddings": tied}
    if kind == "GPT2":
        sizes = {
            "vocab_size": VOCABULARY,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
        }
        sizes |= {"tie_word_embeddings": tied, "bos_token_id": None, "eos_token_id": None}
    if kind == "Mixtral":
        sizes |= {"num_local_experts": 3, "num_experts_per_tok": 2}
    if kind == "Qwen3Moe":
        sizes |= {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    config: PreTrainedConfig = getattr(transformers, f"{kind}Config")(**sizes)
    return config


def _worse(
    ours: "Mapping[str, torch.Tensor]",
    theirs: "Mapping[str, torch.Tensor]",
    exact: "Mapping[str, torch.Tensor]",
) -> list[str]:
    """Tensors where any element of ours is farther from the exact value than PEFT's."""
    found = []
    for name, tensor in exact.items():
        error, other = ((one[name].double() - tensor).abs() for one in (ours, theirs))
        if bool((error > other).any()):
            found.append(f"{name} {error.max()} {other.max()}")
    return found


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["Llama", "Qwen3", "Gemma", "Mistral", "Mixtral", "GPT2"])
def test_no_element_is_farther_from_the_exact_sum_than_pefts(
    tmp_path: Path, kind: str, tied: bool, dtype: str
) -> None:
    import torch

    base = save_base(tmp_path / "base", _config(kind, tied), getattr(torch, dtype))
    adapter = save_adapter(base, tmp_path / "adapter", target_modules="all-linear")
    ours = merge_here(base, adapter)
    theirs = merge_by_peft(base, adapter, tmp_path / "peft")
    exact = merge_by_peft(base, adapter, tmp_path / "exact", torch.float64)
    assert ours.keys() == theirs.keys() == exact.keys()
    assert all(tensor.dtype == theirs[name].dtype for name, tensor in ours.items())
    assert not _worse(ours, theirs, exact)


def test_no_element_of_the_embedded_model_is_farther_than_pefts(
    embedded_model: Path, tmp_path: Path
) -> None:
    import torch

    fields = {"target_modules": "all-linear", "r": 16, "lora_alpha": 32}
    adapter = save_adapter(embedded_model, tmp_path / "adapter", **fields)
    ours = merge_here(embedded_model, adapter, elements=2**20)
    theirs = merge_by_peft(embedded_model, adapter, None)
    exact = merge_by_peft(embedded_model, adapter, None, torch.float64)
    assert len(ours) == 272
    assert not _worse(ours, theirs, {name: exact[name] for name in ours})


@pytest.mark.parametrize("kind", ["Mixtral", "Qwen3Moe"])
@pytest.mark.parametrize("adapted", [["gate_up_proj", "down_proj"], ["gate_up_proj"]])
def test_lora_on_fused_experts_lands_on_each_expert(
    tmp_path: Path, kind: str, adapted: list[str]
) -> None:
    import torch

    base = save_base(tmp_path / "base", _config(kind, False), torch.bfloat16)
    adapter = save_adapter(
        base,
        tmp_path / "adapter",
        target_modules=["q_proj"],
        target_parameters=[f"mlp.experts.{name}" for name in adapted],
        rank_pattern={"experts.gate_up_proj": 3},
        alpha_pattern={"experts.gate_up_proj": 5},
    )
    ours = merge_here(base, adapter)
    theirs = merge_by_peft(base, adapter, tmp_path / "peft")
    exact = merge_by_peft(base, adapter, tmp_path / "exact", torch.float64)
    assert ours.keys() == theirs.keys()
    assert not _worse(ours, theirs, exact)
    before = open_checkpoint(base).tensors
    changed = {name for name in ours if not torch.equal(ours[name], read_tensor(before[name]))}
    weights = {"gate_up_proj": 2, "down_proj": 1}
    assert len(changed) == 2 + 2 * 3 * sum(weights[name] for name in adapted)


def test_lora_on_experts_apart_as_older_transformers_had_them(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    base = save_base(tmp_path / "base", _config("Mixtral", False), torch.bfloat16)
    adapter = save_adapter(base, tmp_path / "adapter", target_modules=["q_proj", "w1", "w2", "w3"])
    tensors = load_file(adapter / "adapter_model.safetensors")
    generator = torch.Generator().manual_seed(3)
    for name, info in open_checkpoint(base).tensors.items():
        if ".experts." in name:
            path = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{path}.lora_A.weight"] = torch.randn(4, info.shape[1], generator=generator)
            tensors[f"{path}.lora_B.weight"] = torch.randn(info.shape[0], 4, generator=generator)
    tensors = {name: tensor for name, tensor in tensors.items() if ".mlp." not in name}
    save_file(tensors, adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text())
    old = {"target_modules": ["q_proj", "w1", "w2", "w3"], "target_parameters": None}
    (adapter / "adapter_config.json").write_text(
        json.dumps(config | old | {"rank_pattern": {}, "alpha_pattern": {}})
    )
    ours = merge_here(base, adapter)
    theirs = merge_by_peft(base, adapter, tmp_path / "peft")
    exact = merge_by_peft(base, adapter, tmp_path / "exact", torch.float64)
    assert not _worse(ours, theirs, exact)
    first = "model.layers.0.block_sparse_moe.experts.0.w1.weight"
    assert not torch.equal(ours[first], read_tensor(open_checkpoint(base).tensors[first]))


def test_lora_on_experts_that_are_fused_in_the_files_is_refused(tmp_path: Path) -> None:
    import torch

    base = save_base(tmp_path / "base", _config("Mixtral", False), torch.bfloat16)
    fields = {"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.down_proj"]}
    adapter = save_adapter(base, tmp_path / "adapter", **fields)
    with pytest.raises(MergeError, match=r"'mlp\.experts\.down_proj': this is merged into bases"):
        open_adapter(adapter, dict)
