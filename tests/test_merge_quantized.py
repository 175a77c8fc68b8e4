"""Bases in 4 bits: the weights that the adapter was trained on, bit for bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_registry.types import BaseIdentity, Lineage
from tests.merging import SIZES, VOCABULARY, merge_here, plan_of, save_adapter, save_base
from training.errors import MergeError
from training.merge.adapter_folder import AdapterFolder, open_adapter
from training.merge.checkpoint import open_checkpoint
from training.merge.quantized import Quantized, find_quantized
from training.merge.reading import read_tensor

pytestmark = pytest.mark.filterwarnings("ignore")

NF4 = Quantized("nf4", "as asked for")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LlamaConfig

    config = LlamaConfig(**{**SIZES, "tie_word_embeddings": True})
    return save_base(tmp_path_factory.mktemp("quantized") / "llama", config, torch.bfloat16)


def _as_bitsandbytes_holds_it(base: Path, kind: str) -> dict[str, torch.Tensor]:
    """The linear weights of the base as training loads it, dequantized."""
    from bitsandbytes.functional import dequantize_4bit
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=True
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype="auto", quantization_config=config, device_map={"": "cpu"}
    )
    held: dict[str, Any] = {
        f"{path}.weight": module.weight
        for path, module in model.named_modules()
        if type(module).__name__ == "Linear4bit"
    }
    return {name: dequantize_4bit(w.data, w.quant_state) for name, w in held.items()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("model", ["Llama", "GPT2"])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_weights_are_rounded_bit_for_bit_as_bitsandbytes_does(
    tmp_path: Path, model: str, kind: Any, dtype: torch.dtype
) -> None:
    from transformers import GPT2Config, LlamaConfig

    gpt2 = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=4, n_positions=64)
    config = gpt2 if model == "GPT2" else LlamaConfig(**{**SIZES, "num_hidden_layers": 1})
    base = save_base(tmp_path / "base", config, dtype)
    adapter = open_adapter(save_adapter(base, tmp_path / "a", target_modules=["lm_head"]))
    ours = merge_here(base, adapter, Quantized(kind, "as asked for"))
    held = _as_bitsandbytes_holds_it(base, kind)
    assert len(held) == (4 if model == "GPT2" else 7)
    original = open_checkpoint(base).tensors
    for name, weight in held.items():
        stored = weight.T if model == "GPT2" else weight
        assert torch.equal(ours[name], stored), name
    for name in ours.keys() - held.keys() - {"lm_head.weight"}:
        assert torch.equal(ours[name], read_tensor(original[name])), name


def test_the_update_comes_after_the_rounding(base: Path, tmp_path: Path) -> None:
    adapter = open_adapter(save_adapter(base, tmp_path / "a", target_modules="all-linear"))
    ours = merge_here(base, adapter, NF4)
    held = _as_bitsandbytes_holds_it(base, "nf4")
    assert {name.removesuffix(".weight") for name in held} == set(adapter.paths)
    for path in adapter.paths:
        module = adapter.load(path)
        update = module.scaling * (module.b.double() @ module.a.double())
        exact = held[f"{path}.weight"].double() + update
        assert torch.equal(ours[f"{path}.weight"], exact.bfloat16()), path


def test_it_is_said_aloud(base: Path, tmp_path: Path) -> None:
    adapter = open_adapter(save_adapter(base, tmp_path / "a", target_modules=["q_proj"]))
    plan, _ = plan_of(base, adapter, NF4)
    assert any("4 bits (nf4; as asked for)" in note for note in plan.notes)
    assert plan.matched == tuple(adapter.paths)


def test_what_the_adapter_saved_whole_was_never_rounded(base: Path, tmp_path: Path) -> None:
    fields = {"target_modules": ["q_proj"], "modules_to_save": ["down_proj"]}
    adapter = open_adapter(save_adapter(base, tmp_path / "a", **fields))
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(merge_here(base, adapter, NF4)[name], read_tensor(adapter.saved[name]))


def _named(adapter: AdapterFolder, **said: str) -> AdapterFolder:
    return replace(adapter, lineage=Lineage(base=BaseIdentity(**said)))


def test_what_it_was_trained_on_is_taken_from_the_lineage_or_the_bases_name(
    base: Path, tmp_path: Path
) -> None:
    adapter = open_adapter(save_adapter(base, tmp_path / "a", target_modules=["q_proj"]))
    assert find_quantized([adapter], "auto") is None
    trained = _named(adapter, name="org/base", quantization="bitsandbytes nf4")
    unsloth = _named(adapter, name="unsloth/llama-3-8b-bnb-4bit")
    for one in (trained, unsloth):
        found = find_quantized([one], "auto")
        assert found is not None
        assert found.kind == "nf4"
        assert find_quantized([one], "none") is None
    asked = find_quantized([adapter], "fp4")
    assert asked is not None
    assert asked.kind == "fp4"


def test_adapters_of_different_bases_are_refused_together(base: Path, tmp_path: Path) -> None:
    adapter = open_adapter(save_adapter(base, tmp_path / "a", target_modules=["q_proj"]))
    trained = _named(adapter, quantization="bitsandbytes nf4")
    with pytest.raises(MergeError, match=r"a base in nf4, and .* in 16 or 32 bits"):
        find_quantized([trained, adapter], "auto")
    assert find_quantized([trained, adapter], "nf4") is not None
