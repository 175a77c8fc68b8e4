"""The check of a merge: good ones hold, each way to get one wrong is found."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adapters_registry.child import silent
from adapters_registry.errors import ModelError
from training.errors import MergeError
from training.merge.verification.judgement import Measured, judge
from training.merge.verification.logits import apart, logits
from training.merge.verification.measure import (
    Expected,
    Request,
    compare,
    expect,
    measure,
    pick_place,
)
from training.merge.verification.models import load_base, load_merged
from training.merge.verification.stored import Stored, read_stored
from training.merge.verify import Verification, verify

if TYPE_CHECKING:
    import torch

    from training.merge.verification.models import Place

    Tensors = dict[str, torch.Tensor]

DTYPES = ["float32", "float16", "bfloat16"]


# --- Merges of tiny models, good and bad


def _model(folder: Path, architecture: str, dtype: str, *, tied: bool = True) -> Path:
    """A base of chance in `folder`, without a tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    extra = {"num_local_experts": 4} if architecture == "mixtral" else {}
    config = AutoConfig.for_model(
        architecture,
        vocab_size=256,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
        **extra,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def _adapter(folder: Path, base: Path, alpha: int = 16, **options: Any) -> Path:
    """An adapter of chance, of rank 4."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(1)
    config: dict[str, Any] = {"target_modules": "all-linear", "init_lora_weights": False} | options
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=alpha, **config))
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def _merge_by_hand(base: Path, adapter: Path, scaling: float | None = None) -> "Tensors":
    """Plain LoRA on the base's tensors, in float32."""
    from safetensors.torch import load_file

    config = json.loads((adapter / "adapter_config.json").read_text())
    factors = load_file(adapter / "adapter_model.safetensors")
    tensors = load_file(base / "model.safetensors")
    scaling = config["lora_alpha"] / config["r"] if scaling is None else scaling
    for name in [name for name in factors if ".lora_A." in name]:
        a, b = factors[name].float(), factors[name.replace("lora_A", "lora_B")].float()
        path = name.removeprefix("base_model.model.").replace("lora_A.", "")
        tensors[path] = tensors[path].float() + scaling * b @ a
    return tensors


def _write(folder: Path, base: Path, tensors: "Tensors", dtype: str, **config: Any) -> Path:
    """A merged model of those tensors, rounded once."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    rounded = {
        name: tensor.to(getattr(torch, dtype)).contiguous() for name, tensor in tensors.items()
    }
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
    found = json.loads((base / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(found | {"dtype": dtype} | config))
    return folder


def _check(base: Path, adapter: Path, merged: Path, scratch: Path, **request: Any) -> Verification:
    return judge(measure(Request(base, adapter, merged, **request), scratch, silent), None)


def _cpu() -> "Place":
    return pick_place(0, Path(), streams=False)


@pytest.mark.parametrize(
    ("architecture", "dtype", "tied"),
    [
        ("llama", "bfloat16", True),
        ("llama", "float16", False),
        ("qwen2", "float32", False),
        ("gemma", "bfloat16", True),
    ],
)
def test_a_good_merge_holds(architecture: str, dtype: str, tied: bool, tmp_path: Path) -> None:
    base = _model(tmp_path / "base", architecture, dtype, tied=tied)
    adapter = _adapter(tmp_path / "adapter", base)
    merged = _write(tmp_path / "merged", base, _merge_by_hand(base, adapter), dtype)
    found = _check(base, adapter, merged, tmp_path)
    assert (found.problem, found.notes) == ("", ())
    assert (found.probes, found.tokens) == (12, 12 * (32 + 16))
    assert found.max_logit_diff <= found.tolerance < found.effect / 4
    assert found.effect_agreement < found.greedy_agreement


def test_a_merge_of_experts_to_another_type_holds(tmp_path: Path) -> None:
    base = _model(tmp_path / "base", "mixtral", "float32")
    adapter = _adapter(tmp_path / "adapter", base, target_modules=["q_proj", "v_proj"])
    tensors = _merge_by_hand(base, adapter)
    merged = _write(tmp_path / "merged", base, tensors, "float16")
    assert _check(base, adapter, merged, tmp_path).problem == ""


class Llama:
    """A small Llama in bfloat16, an adapter on all its linear layers, and what they answer."""

    def __init__(self, folder: Path) -> None:
        self.base = _model(folder / "base", "llama", "bfloat16")
        self.adapter = _adapter(folder / "adapter", self.base)
        self.expected = _expect(self.base, self.adapter)

    def judge(self, folder: Path, tensors: "Tensors") -> Verification:
        """Of a merged model of those tensors, written to `folder`."""
        merged = _write(folder, self.base, tensors, "bfloat16")
        return _judge(self.expected, merged)


def _expect(base: Path, adapter: Path, dtype: str = "bfloat16") -> Expected:
    return expect(Request(base, adapter, base), Stored({"": dtype}, 0), _cpu(), silent)


def _judge(expected: Expected, merged: Path, tolerance: float | None = None) -> Verification:
    from_adapted, from_best = compare(merged, expected, _cpu(), silent)
    measured = Measured(
        probes=12,
        tokens=600,
        merged=from_adapted,
        effect=expected.effect,
        rounding=expected.rounding,
        arithmetic=expected.arithmetic,
        best=from_best,
        dtype="bfloat16",
        how="here",
    )
    return judge(measured, tolerance)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Llama:
    """Run once: what is tried on it are merged models."""
    return Llama(tmp_path_factory.mktemp("llama"))


def _not_applied(llama: Llama) -> "Tensors":
    return _merge_by_hand(llama.base, llama.adapter, scaling=0.0)


def _applied_twice(llama: Llama) -> "Tensors":
    once = _merge_by_hand(llama.base, llama.adapter)
    base = _merge_by_hand(llama.base, llama.adapter, scaling=0.0)
    return {name: 2 * once[name].float() - base[name].float() for name in once}


def _with_rslora_scaling(llama: Llama) -> "Tensors":
    return _merge_by_hand(llama.base, llama.adapter, scaling=16 / 4**0.5)


def _without_one_module(llama: Llama) -> "Tensors":
    name = "model.layers.1.self_attn.k_proj.weight"
    return _merge_by_hand(llama.base, llama.adapter) | {name: _not_applied(llama)[name]}


def _with_another_base(llama: Llama) -> "Tensors":
    """Its weights are all off by a part in a hundred."""
    merged = _merge_by_hand(llama.base, llama.adapter)
    return {name: tensor.float() * 1.01 for name, tensor in merged.items()}


def _with_a_little_too_much(llama: Llama) -> "Tensors":
    """Within twice what rounding does, but not the adapter that was asked for."""
    return _merge_by_hand(llama.base, llama.adapter, scaling=4 * 1.005)


@pytest.mark.parametrize(
    "wrongly",
    [
        _not_applied,
        _applied_twice,
        _with_rslora_scaling,
        _without_one_module,
        _with_another_base,
        _with_a_little_too_much,
    ],
)
def test_a_wrong_merge_fails(
    wrongly: "Callable[[Llama], Tensors]", llama: Llama, tmp_path: Path
) -> None:
    found = llama.judge(tmp_path / "merged", wrongly(llama))
    assert not found.passed, found
    assert "off" in found.problem


def test_the_right_merge_of_the_same_holds(llama: Llama, tmp_path: Path) -> None:
    found = llama.judge(tmp_path / "merged", _merge_by_hand(llama.base, llama.adapter))
    assert found.passed, found


def test_a_model_that_gives_no_numbers_fails(llama: Llama, tmp_path: Path) -> None:
    tensors = _merge_by_hand(llama.base, llama.adapter)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * float("nan")
    assert "NaN" in llama.judge(tmp_path / "merged", tensors).problem


def test_a_model_that_lacks_a_tensor_cannot_be_run(llama: Llama, tmp_path: Path) -> None:
    tensors = _merge_by_hand(llama.base, llama.adapter)
    del tensors["model.layers.2.mlp.up_proj.weight"]
    with pytest.raises(ModelError, match=r"merged model lacks .*: model\.layers\.2\.mlp\.up_proj"):
        llama.judge(tmp_path / "merged", tensors)


def test_a_model_of_another_vocabulary_is_told(llama: Llama, tmp_path: Path) -> None:
    tensors = _merge_by_hand(llama.base, llama.adapter)
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:200]
    merged = _write(tmp_path / "merged", llama.base, tensors, "bfloat16", vocab_size=200)
    with pytest.raises(ModelError, match=r"200 tokens, base\+adapter 256"):
        _judge(llama.expected, merged)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")  # so it is
def test_an_output_layer_tied_to_changed_embeddings_fails(tmp_path: Path) -> None:
    """An adapter on the embeddings of a tied base: right untied, wrong tied."""
    from safetensors.torch import load_file

    base = _model(tmp_path / "base", "llama", "bfloat16")
    adapter = _adapter(tmp_path / "adapter", base, target_modules=["embed_tokens"])
    expected = _expect(base, adapter)
    factors = load_file(adapter / "adapter_model.safetensors")
    a, b = (
        next(one.float() for name, one in factors.items() if kind in name)
        for kind in ("lora_embedding_A", "lora_embedding_B")
    )
    tensors = _merge_by_hand(base, adapter)
    name = "model.embed_tokens.weight"
    before = tensors[name]
    tensors[name] = before.float() + 4 * (b @ a).T
    tied = _write(tmp_path / "tied", base, tensors, "bfloat16")
    tensors["lm_head.weight"] = before
    untied = _write(tmp_path / "untied", base, tensors, "bfloat16", tie_word_embeddings=False)
    assert _judge(expected, untied).passed
    assert not _judge(expected, tied).passed


def test_a_small_adapter_is_told_from_none_where_the_type_holds_it(tmp_path: Path) -> None:
    base = _model(tmp_path / "base", "llama", "bfloat16")
    adapter = _adapter(tmp_path / "adapter", base, alpha=1)
    small = json.loads((adapter / "adapter_config.json").read_text()) | {"lora_alpha": 1e-3}
    (adapter / "adapter_config.json").write_text(json.dumps(small))
    for dtype, hidden in (("bfloat16", True), ("float32", False)):
        right = _write(tmp_path / dtype, base, _merge_by_hand(base, adapter), dtype)
        found = _judge(_expect(base, adapter, dtype), right)
        assert found.passed, found
        assert bool(found.notes) == hidden, found


def test_weights_of_an_adapter_scale_its_effect(llama: Llama, tmp_path: Path) -> None:
    half = _merge_by_hand(llama.base, llama.adapter, scaling=2.0)
    merged = _write(tmp_path / "merged", llama.base, half, "bfloat16")
    assert _check(llama.base, llama.adapter, merged, tmp_path, weight=0.5).passed
    assert not _check(llama.base, llama.adapter, merged, tmp_path).passed


# --- Models larger than memory


@pytest.mark.parametrize("options", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_read_layer_by_layer_the_models_answer_the_same(
    options: dict[str, Any], tmp_path: Path
) -> None:
    import torch

    base = _model(tmp_path / "base", "llama", "bfloat16", tied=False)
    adapter = _adapter(tmp_path / "adapter", base, **options)
    merged = tmp_path / "merged"
    model = load_base(base, adapter, _cpu(), quantization=None, weight=1.0)
    model.merge_and_unload().to(torch.bfloat16).save_pretrained(merged)
    request = Request(base, adapter, merged)
    whole = expect(request, read_stored(merged), _cpu(), silent)
    place = replace(_cpu(), scratch=tmp_path / "scratch")
    read = expect(request, read_stored(merged), place, silent)
    for ours, theirs in zip(read.adapted + read.best, whole.adapted + whole.best, strict=True):
        torch.testing.assert_close(ours, theirs[: len(ours)], atol=1e-5, rtol=0)
    from_adapted, from_best = compare(merged, read, place, silent)
    assert from_best.largest < 1e-5 < from_adapted.largest


def test_an_adapter_lies_where_its_base_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT puts whole tensors on the machine's GPU, though the model is read into memory."""
    import peft.peft_model

    base = _model(tmp_path / "base", "llama", "bfloat16", tied=False)
    adapter = _adapter(tmp_path / "adapter", base, modules_to_save=["lm_head"])
    monkeypatch.setattr(peft.peft_model, "infer_device", lambda: "meta")
    model = load_base(base, adapter, _cpu(), quantization=None, weight=1.0)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_experts_are_read_layer_by_layer_too(tmp_path: Path) -> None:
    """Their weights are stored one by one and used as one."""
    import torch

    base = _model(tmp_path / "base", "mixtral", "bfloat16")
    with torch.inference_mode():
        whole, read = (
            list(logits(load_merged(base, place), [[1, 2, 3]], 256))
            for place in (_cpu(), replace(_cpu(), scratch=tmp_path / "scratch"))
        )
    assert apart(whole, read).largest == 0.0


def test_where_no_model_fits_it_is_said_before_loading(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"GiB of memory are needed .*\(--no-verify\)"):
        pick_place(10**15, tmp_path, streams=False)
    assert pick_place(10**15, tmp_path, streams=True).scratch == tmp_path


# --- The whole check


def test_the_whole_check_in_its_own_process(
    tiny_base: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    """With a tokenizer, a chat template and the prompts of this repository."""
    tensors = _merge_by_hand(tiny_base, tiny_adapter)
    merged = _write(tmp_path / "merged", tiny_base, tensors, "bfloat16")
    stages = []
    found = verify(
        tiny_base, tiny_adapter, merged, progress=lambda stage, _part: stages.append(stage)
    )
    assert found.passed, found
    assert found.probes == 12
    assert found.tokens > 12 * 16
    assert stages[0] == "loading base and adapter"
    assert stages[-1] == "running the merged model"
    assert "merged model by transformers" in found.how


def test_a_folder_without_weights_is_a_clear_error(
    tiny_base: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(MergeError, match=r"cannot be verified: the weights in .* cannot be read"):
        verify(tiny_base, tiny_adapter, tmp_path)


def test_a_four_bit_base_is_compared_in_four_bits(tmp_path: Path) -> None:
    """A merge onto the base before it was put in 4 bits is another model."""
    base = _model(tmp_path / "base", "llama", "bfloat16")
    adapter = _adapter(tmp_path / "adapter", base)
    model = load_base(base, adapter, _cpu(), quantization="nf4", weight=1.0)
    state = model.merge_and_unload().state_dict()
    del state["lm_head.weight"]
    four = _write(tmp_path / "four", base, state, "bfloat16")
    sixteen = _write(tmp_path / "sixteen", base, _merge_by_hand(base, adapter), "bfloat16")
    request = Request(base, adapter, four, quantization="nf4")
    expected = expect(request, read_stored(four), _cpu(), silent)
    assert _judge(expected, four).passed
    assert not _judge(expected, sixteen).passed


def test_what_a_folder_stores_is_read_from_its_headers(tmp_path: Path) -> None:
    base = _model(tmp_path / "base", "llama", "float16")
    found = read_stored(base)
    assert set(found.dtypes.values()) == {"float16"}
    assert found.usual_dtype == "float16"
    size = (base / "model.safetensors").stat().st_size
    assert 0 <= size - 2 * found.values < 10_000
