"""Plans: every kind of adapter beside PEFT's own model, and what does not belong together."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_registry.base_model import BaseModelSpec, describe
from adapters_registry.types import BaseIdentity, Lineage
from tests.merging import (
    SIZES,
    VOCABULARY,
    computed,
    load_base,
    merge_by_peft,
    merge_here,
    plan_of,
    save_adapter,
    save_base,
)
from training.errors import MergeError
from training.merge.adapter_folder import AdapterFolder, open_adapter
from training.merge.base_match import check_base
from training.merge.checkpoint import open_checkpoint
from training.merge.copies import without_copies
from training.merge.names import load_names
from training.merge.plan import make_plan

pytestmark = pytest.mark.filterwarnings("ignore")

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """In float32, so that PEFT's own model computes finely: llamas with biases, and a GPT-2."""
    from transformers import GPT2Config, LlamaConfig

    root = tmp_path_factory.mktemp("bases")
    sizes = {**SIZES, "num_hidden_layers": 1, "attention_bias": True}
    gpt2: dict[str, Any] = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 1, "n_head": 4}
    gpt2 |= {"n_positions": 64, "bos_token_id": None, "eos_token_id": None}
    return {
        "tied": save_base(
            root / "tied", LlamaConfig(**sizes, tie_word_embeddings=True), torch.float32
        ),
        "untied": save_base(root / "untied", LlamaConfig(**sizes), torch.float32),
        "gpt2": save_base(root / "gpt2", GPT2Config(**gpt2), torch.float32),
    }


def _outputs_of_peft(base: Path, adapter: Path) -> torch.Tensor:
    from peft import PeftModel

    model = PeftModel.from_pretrained(load_base(base), adapter).eval()
    return _logits(model)


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(40).view(2, 20) * 2).logits
    return found


def _save_merged(base: Path, adapter: Path, out: Path) -> dict[str, Any]:
    """A folder that transformers loads; gives back what changed in its configuration."""
    from safetensors.torch import save_file

    plan, _ = plan_of(base, open_adapter(adapter))
    out.mkdir()
    save_file(computed(plan, base), out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text()) | plan.config
    (out / "config.json").write_text(json.dumps(config))
    return dict(plan.config)


ADAPTERS: dict[str, dict[str, Any]] = {
    "all-linear": {"target_modules": "all-linear"},
    "rslora": {"target_modules": ["q_proj", "c_attn"], "use_rslora": True},
    "patterns": {
        "target_modules": "all-linear",
        "rank_pattern": {"q_proj": 2, r".*\.mlp\..*": 3},
        "alpha_pattern": {"self_attn.k_proj": 11},
    },
    "dora": {"target_modules": "all-linear", "use_dora": True},
    "dora rslora": {"target_modules": "all-linear", "use_dora": True, "use_rslora": True},
    "lora_bias": {"target_modules": ["q_proj", "o_proj", "c_attn", "c_proj"], "lora_bias": True},
    "bias all": {"target_modules": ["q_proj", "c_attn"], "bias": "all"},
    "bias lora_only": {"target_modules": ["q_proj", "c_attn"], "bias": "lora_only"},
}


@pytest.mark.parametrize("kind", ["untied", "gpt2"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_kind_of_adapter_merges_to_what_peft_computes(
    bases: dict[str, Path], tmp_path: Path, kind: str, adapter: str
) -> None:
    folder = save_adapter(bases[kind], tmp_path / "a", **ADAPTERS[adapter])
    ours = merge_here(bases[kind], folder)
    exact = merge_by_peft(bases[kind], folder, tmp_path / "exact", torch.float64)
    assert ours.keys() == exact.keys()
    for name, tensor in exact.items():
        torch.testing.assert_close(ours[name].double(), tensor, rtol=1e-7, atol=1e-9, msg=name)


EMBEDDINGS: dict[str, tuple[dict[str, Any], bool]] = {
    "q_proj": ({"target_modules": ["q_proj"]}, True),
    "embedding": ({"target_modules": ["embed_tokens"]}, False),
    "embedding dora": ({"target_modules": ["embed_tokens"], "use_dora": True}, False),
    "head": ({"target_modules": ["lm_head"]}, False),
    "both": ({"target_modules": ["embed_tokens", "lm_head"]}, False),
    "both as one": (
        {"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
        True,
    ),
    "embedding saved": ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, False),
    "head saved": ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, False),
    "both saved": (
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
        False,
    ),
    "both saved as one": (
        {
            "target_modules": ["q_proj"],
            "modules_to_save": ["embed_tokens"],
            "ensure_weight_tying": True,
        },
        True,
    ),
    "tokens": ({"target_modules": ["q_proj"], "trainable_token_indices": [5, 2, 76]}, True),
    "tokens apart": (
        {
            "target_modules": ["q_proj"],
            "trainable_token_indices": {"embed_tokens": [4, 2], "lm_head": [6]},
        },
        False,
    ),
    "tokens of the head": (
        {"target_modules": ["q_proj"], "trainable_token_indices": {"lm_head": [6]}},
        False,
    ),
}


@pytest.mark.parametrize("kind", ["tied", "untied"])
@pytest.mark.parametrize("adapter", EMBEDDINGS)
def test_embeddings_stay_one_weight_only_where_peft_computes_with_one(
    bases: dict[str, Path], tmp_path: Path, kind: str, adapter: str
) -> None:
    """PEFT's model with the adapter, not its merge, is what the merged model must equal."""
    fields, stays = EMBEDDINGS[adapter]
    folder = save_adapter(bases[kind], tmp_path / "a", **fields)
    changed = _save_merged(bases[kind], folder, tmp_path / "merged")
    merged = load_base(tmp_path / "merged")
    expected = _outputs_of_peft(bases[kind], folder)
    before = _logits(load_base(bases[kind]))
    assert (expected - before).abs().max() > 1e-3
    torch.testing.assert_close(_logits(merged), expected, rtol=1e-4, atol=1e-5)
    tied = kind == "tied" and stays
    assert (merged.lm_head.weight is merged.model.embed_tokens.weight) == tied
    assert changed == ({} if tied or kind == "untied" else {"tie_word_embeddings": False})
    assert (HEAD in open_checkpoint(tmp_path / "merged").tensors) != tied


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_added_tokens_come_with_their_number(
    bases: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    from peft import LoraConfig, get_peft_model

    model = load_base(bases[kind])
    model.resize_token_embeddings(VOCABULARY + 3)
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    adapted = get_peft_model(model, config)
    adapted.save_pretrained(str(tmp_path / "a"), save_embedding_layers=True)
    changed = _save_merged(bases[kind], tmp_path / "a", tmp_path / "merged")
    merged = load_base(tmp_path / "merged")
    assert changed == {"vocab_size": VOCABULARY + 3}
    torch.testing.assert_close(_logits(merged), _logits(adapted), rtol=1e-4, atol=1e-5)


def test_tokens_added_on_one_side_only_are_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    fields = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}
    folder = save_adapter(bases["untied"], tmp_path / "a", **fields)
    tensors = load_file(folder / "adapter_model.safetensors")
    name = f"base_model.model.{EMBEDDING}"
    tensors[name] = torch.cat([tensors[name], tensors[name][:3]])
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(MergeError, match="more or fewer tokens"):
        plan_of(bases["untied"], open_adapter(folder))


def test_untouched_tensors_are_the_bases(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = save_adapter(bases["tied"], tmp_path / "a", target_modules=["q_proj"])
    plan, _ = plan_of(bases["tied"], open_adapter(folder))
    tensors = open_checkpoint(bases["tied"]).tensors
    assert [output.name for output in plan.outputs] == list(tensors)
    changed = [output.name for output in plan.outputs if output.update is not None]
    assert changed == ["model.layers.0.self_attn.q_proj.weight"]
    assert all(output.source == tensors[output.name] for output in plan.outputs)
    assert plan.matched == ("model.layers.0.self_attn.q_proj",)


def test_the_names_in_the_files_are_found_where_they_are_others(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    """As GPT-2's on the Hub, which begin with `h.0`, and older Mixtrals'."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(bases["gpt2"] / "model.safetensors")
    short = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    (tmp_path / "short").mkdir()
    save_file(short, tmp_path / "short" / "model.safetensors", metadata={"format": "pt"})
    config = (bases["gpt2"] / "config.json").read_bytes()
    (tmp_path / "short" / "config.json").write_bytes(config)
    folder = save_adapter(bases["gpt2"], tmp_path / "a", target_modules="all-linear")
    ours, same = merge_here(tmp_path / "short", folder), merge_here(bases["gpt2"], folder)
    assert short.keys() == ours.keys()
    assert all(torch.equal(ours[n.removeprefix("transformer.")], t) for n, t in same.items())


def _plan(base: Path, source: Any, **changed: Any) -> None:
    config = json.loads((base / "config.json").read_text()) | changed
    make_plan(open_checkpoint(base).tensors, describe(base), source, config=config)


def test_another_models_adapter_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = save_adapter(bases["gpt2"], tmp_path / "a", target_modules=["c_attn"])
    with pytest.raises(MergeError, match="1 tensors, and none of them is in the base untied") as no:
        _plan(bases["untied"], open_adapter(folder))
    assert "'transformer.h.0.attn.c_attn.weight'" in no.value.message


def test_tensors_without_a_place_are_named_and_counted(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_adapter(bases["untied"], tmp_path / "a", target_modules=["q_proj"])
    tensors = load_file(folder / "adapter_model.safetensors")
    more = {
        name.replace("layers.0", f"layers.{layer}"): tensor.clone()
        for layer in range(1, 8)
        for name, tensor in tensors.items()
    }
    save_file({**tensors, **more}, folder / "adapter_model.safetensors")
    with pytest.raises(MergeError, match="changes 8 tensors, and 1 of them is in the base") as no:
        _plan(bases["untied"], open_adapter(folder))
    assert "layers.1.self_attn.q_proj.weight'" in no.value.message
    assert no.value.message.count("q_proj") == 5


def test_another_size_is_another_base(bases: dict[str, Path], tmp_path: Path) -> None:
    from transformers import LlamaConfig

    wider = LlamaConfig(**{**SIZES, "hidden_size": 48, "num_hidden_layers": 1})
    other = save_base(tmp_path / "other", wider, torch.float32)
    folder = save_adapter(other, tmp_path / "a", target_modules=["q_proj"])
    with pytest.raises(MergeError, match=r"q_proj\.weight is 32x32 in the base and 32x48 in"):
        _plan(bases["untied"], open_adapter(folder))


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "compressed-tensors", "bitsandbytes"])
def test_a_quantized_base_is_refused(bases: dict[str, Path], tmp_path: Path, method: str) -> None:
    folder = save_adapter(bases["untied"], tmp_path / "a", target_modules=["q_proj"])
    with pytest.raises(MergeError, match=rf"quantized \({method}\).*merge into the model in 16"):
        _plan(bases["untied"], open_adapter(folder), quantization_config={"quant_method": method})


def _trained_on(adapter: AdapterFolder, **said: str) -> AdapterFolder:
    return replace(adapter, lineage=Lineage(base=BaseIdentity(name="org/base", **said)))


@pytest.mark.parametrize(
    ("said", "what"),
    [({"revision": "b" * 40}, "revision"), ({"config_sha256": "c" * 64}, r"config\.json")],
)
def test_another_revision_of_the_base_is_refused(
    bases: dict[str, Path], tmp_path: Path, said: dict[str, str], what: str
) -> None:
    folder = save_adapter(bases["untied"], tmp_path / "a", target_modules=["q_proj"])
    spec: BaseModelSpec = describe(bases["untied"]).model_copy(update={"revision": "a" * 40})
    adapter = open_adapter(folder)
    assert check_base(adapter, spec) == ()
    assert check_base(_trained_on(adapter, revision="main"), spec) == ()
    assert check_base(_trained_on(adapter, revision="a" * 40), spec) == ()
    with pytest.raises(MergeError, match=rf"another {what} of its base") as no:
        check_base(_trained_on(adapter, **said), spec)
    assert next(iter(said.values())) in no.value.message
    assert (spec.revision if what == "revision" else spec.config_sha256) in no.value.message  # type: ignore[operator]


def test_pefts_own_word_for_the_revision_counts(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = save_adapter(
        bases["untied"], tmp_path / "a", target_modules=["q_proj"], revision="d" * 40
    )
    spec = describe(bases["untied"]).model_copy(update={"revision": "a" * 40})
    with pytest.raises(MergeError, match="d" * 40):
        check_base(open_adapter(folder), spec)


def test_a_copy_of_the_base_is_left_out(bases: dict[str, Path], tmp_path: Path) -> None:
    fields = {"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True}
    folder = save_adapter(bases["tied"], tmp_path / "a", **fields)
    tensors, spec = open_checkpoint(bases["tied"]).tensors, describe(bases["tied"])
    adapter = open_adapter(folder)
    assert adapter.shared == {HEAD, EMBEDDING}
    lean = without_copies(adapter, tensors, spec)
    assert (lean.saved, lean.shared) == ({}, frozenset())
    whole, less = (computed(plan_of(bases["tied"], a)[0], bases["tied"]) for a in (adapter, lean))
    assert all(torch.equal(whole[name], tensor) for name, tensor in less.items())
    other = replace(tensors[EMBEDDING], start=tensors[EMBEDDING].start + 4)
    assert without_copies(adapter, {**tensors, EMBEDDING: other}, spec).shared == adapter.shared


def test_the_names_of_a_base_are_found_in_a_process_of_its_own_and_kept(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    names = ["wte.weight", "h.0.attn.c_attn.weight", "transformer.ln_f.bias"]
    found = load_names(bases["gpt2"], names, tmp_path)
    assert found.names == {f"transformer.{name}": name for name in names[:2]}
    (kept,) = (tmp_path / "base-models").iterdir()
    kept.write_text('{"names": {"from": "there"}}')
    assert load_names(bases["gpt2"], names, tmp_path).names == {"from": "there"}
