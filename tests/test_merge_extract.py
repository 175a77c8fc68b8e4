"""An adapter taken out of a full fine-tune: how much it holds, and what it may not lose."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adapters_registry.base_model import load_spec
from adapters_registry.manifest import check_adapter
from loraplex.client.folder import metadata_of
from tests.described import described
from tests.tiny_base import NO_END
from training.errors import MergeError
from training.merge.combine.svd import EXACT_SIDE, decompose
from training.merge.extract import Extracted, extract
from training.merge.job import Moved

if TYPE_CHECKING:
    import torch

# An adapter of tied embeddings is what comes out of a fine-tune of them; PEFT warns of merging it.
pytestmark = pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")

Q_PROJ = "model.layers.0.self_attn.q_proj"
K_PROJ = "model.layers.1.self_attn.k_proj"
DOWN_PROJ = "model.layers.1.mlp.down_proj"
EMBEDDING = "model.embed_tokens"

Change = Callable[["dict[str, torch.Tensor]"], None]


def low_rank(rows: int, columns: int, rank: int, seed: int) -> "torch.Tensor":
    import torch

    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=generator)
    return left @ torch.randn(rank, columns, generator=generator) * 0.02


def add(weights: "dict[str, torch.Tensor]", path: str, rank: int, seed: int = 0) -> None:
    weight = weights[f"{path}.weight"]
    rows, columns = weight.shape
    weight += low_rank(rows, columns, rank, seed)


def tune(base: Path, folder: Path, change: Change) -> Path:
    """A fine-tune of the model in `base`: its files, with the weights changed."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def change_config(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def take_out(base: Path, tuned: Path, rank: int, out: Path, **more: Any) -> Extracted:
    """`extract`, with its cache beside `out`."""
    cache_dir = described(out.parent / "cache", base, tuned)
    return extract(base, tuned, rank, out, cache_dir=cache_dir, **more)


def logits_of(folder: Path, *adapters: Path | None) -> "list[torch.Tensor]":
    """Of the model in float32, with each of the adapters applied by PEFT, or none."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found: list[torch.Tensor] = []
    for adapter in adapters or (None,):
        changed = model if adapter is None else PeftModel.from_pretrained(model, adapter)
        with torch.no_grad():
            found.append(changed(torch.arange(5, 69)[None]).logits)
        model = model if adapter is None else changed.unload()
    return found


def _change_four(weights: "dict[str, torch.Tensor]") -> None:
    add(weights, Q_PROJ, rank=6)
    add(weights, K_PROJ, rank=3)
    add(weights, DOWN_PROJ, rank=2)
    add(weights, EMBEDDING, rank=6)


def test_a_fine_tune_of_low_rank_comes_back_whole(tiny_base: Path, tmp_path: Path) -> None:
    import torch

    tuned = tune(tiny_base, tmp_path / "tuned", _change_four)
    seen: list[Moved] = []
    out = tmp_path / "out"
    found = take_out(tiny_base, tuned, 6, out, progress=seen.append)

    # The embedding is tied: its change is the head's too.
    wanted = {Q_PROJ: 6, K_PROJ: 3, DOWN_PROJ: 2, EMBEDDING: 6, "lm_head": 6}
    assert found.adapter.ranks == wanted
    assert all(module.energy == pytest.approx(1, abs=1e-5) for module in found.modules)
    assert found.energy == pytest.approx(1, abs=1e-5)
    assert found.left_out == ()
    assert found.unchanged == 2 * 7 - 3
    assert (seen[0].done_bytes, seen[-1].done_bytes) == (0, seen[-1].total_bytes)

    (there,) = logits_of(tuned)
    before, back = logits_of(tiny_base, None, out)
    assert float((there - before).abs().max()) > 0.1
    torch.testing.assert_close(back, there, rtol=0, atol=1e-4)
    spec = load_spec(tiny_base, tmp_path / "cache")
    assert check_adapter(out, spec, max_rank=6).rank == 6
    lineage = metadata_of(out)["lineage"]
    assert lineage["base"]["config_sha256"] == spec.config_sha256
    assert lineage["recipe"]["extract"]["rank"] == 6
    assert str(tmp_path) not in (out / "metadata.json").read_text()


def test_what_a_rank_holds_is_what_its_singular_values_say(tiny_base: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    def change(weights: "dict[str, torch.Tensor]") -> None:
        torch.manual_seed(1)
        weights[f"{DOWN_PROJ}.weight"] += 0.01 * torch.randn(64, 128)
        add(weights, DOWN_PROJ, rank=2)

    tuned = tune(tiny_base, tmp_path / "tuned", change)
    found = take_out(tiny_base, tuned, 4, tmp_path / "out")

    name = f"{DOWN_PROJ}.weight"
    stored = [load_file(folder / "model.safetensors")[name] for folder in (tiny_base, tuned)]
    difference = (stored[1] - stored[0]).double()
    values = torch.linalg.svdvals(difference).square()
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    b, a = (tensors[f"base_model.model.{DOWN_PROJ}.lora_{side}.weight"] for side in "BA")
    residual = (difference - (b @ a).double()).square().sum() / difference.square().sum()

    (module,) = found.modules
    assert 0.3 < module.energy < 0.99
    assert module.energy == pytest.approx(float(values[:4].sum() / values.sum()), abs=1e-6)
    assert module.energy == pytest.approx(1 - float(residual), abs=1e-6)
    assert module.change == pytest.approx(float(difference.norm()), rel=1e-6)
    assert module.relative == pytest.approx(float(difference.norm() / stored[0].norm()), rel=1e-5)
    assert found.energy == pytest.approx(module.energy)


def test_a_large_matrix_is_decomposed_as_well_by_projection() -> None:
    import torch

    torch.manual_seed(0)
    side = EXACT_SIDE + 76
    matrix = low_rank(side + 100, side, rank=16, seed=0) + 1e-3 * torch.randn(side + 100, side)
    state = torch.random.get_rng_state()
    thin = decompose(matrix, 16, seed=5)
    assert torch.random.get_rng_state().equal(state)
    assert decompose(matrix, 16, seed=5).b.equal(thin.b)

    least = torch.linalg.svdvals(matrix)[16:].norm()
    left = (matrix - thin.b @ thin.a).norm()
    assert float(left / least) == pytest.approx(1, abs=1e-3)
    assert float(thin.b.norm() / thin.a.norm()) == pytest.approx(1, abs=1e-4)


def test_changes_that_no_adapter_holds_are_refused_by_name(tiny_base: Path, tmp_path: Path) -> None:
    norm = "model.layers.0.input_layernorm.weight"

    def change(weights: "dict[str, torch.Tensor]") -> None:
        add(weights, Q_PROJ, rank=2)
        weights[norm] += 0.25

    tuned = tune(tiny_base, tmp_path / "tuned", change)
    change_config(tuned, rope_parameters={"rope_theta": 5e5, "rope_type": "default"})
    tokenizer = json.loads((tuned / "tokenizer.json").read_text())
    tokenizer["added_tokens"][0]["lstrip"] = True
    (tuned / "tokenizer.json").write_text(json.dumps(tokenizer))
    out = tmp_path / "out"
    with pytest.raises(MergeError) as caught:
        take_out(tiny_base, tuned, 2, out)
    assert f"{norm} (LoRA adapts no such tensor, changed by up to 0.25)" in caught.value.message
    assert "config.json: rope_parameters" in caught.value.message
    assert "tokenizer.json" in caught.value.message
    assert "--allow-left-out" in caught.value.message
    assert not out.exists()

    found = take_out(tiny_base, tuned, 2, out, allow_left_out=True)
    assert [one.name for one in found.left_out] == [
        "config.json: rope_parameters",
        "tokenizer.json",
        norm,
    ]
    assert found.adapter.ranks == {Q_PROJ: 2}
    recipe = metadata_of(out)["lineage"]["recipe"]["extract"]
    assert norm in recipe["left_out"]


def test_a_change_of_rounding_is_told_and_not_refused(tiny_base: Path, tmp_path: Path) -> None:
    import torch

    norm = "model.norm.weight"

    def change(weights: "dict[str, torch.Tensor]") -> None:
        weights[norm] *= 1.001  # in bfloat16 less than a step
        for name, weight in weights.items():
            weights[name] = weight.bfloat16()
        weights[f"{Q_PROJ}.weight"] += low_rank(64, 64, 2, seed=0).bfloat16()
        weights[norm] = torch.full_like(weights[norm], 1 + 2**-7)

    tuned = tune(tiny_base, tmp_path / "tuned", change)
    found = take_out(tiny_base, tuned, 2, tmp_path / "out")
    # Nor are weights adapted that only became narrower.
    assert [module.path for module in found.modules] == [Q_PROJ]
    assert [(one.name, one.lost) for one in found.left_out] == [(norm, False)]


def test_a_fine_tune_that_is_its_base_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    def narrow(weights: "dict[str, torch.Tensor]") -> None:
        for name, weight in weights.items():
            weights[name] = weight.bfloat16()

    for tuned in (tiny_base, tune(tiny_base, tmp_path / "narrow", narrow)):
        with pytest.raises(MergeError, match="nothing to extract"):
            take_out(tiny_base, tuned, 2, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_head_of_its_own_comes_back_beside_the_embedding(tiny_base: Path, tmp_path: Path) -> None:
    import torch

    def untie(weights: "dict[str, torch.Tensor]") -> None:
        weights["lm_head.weight"] = weights[f"{EMBEDDING}.weight"].clone()
        add(weights, "lm_head", rank=3, seed=1)
        add(weights, EMBEDDING, rank=2, seed=2)

    tuned = tune(tiny_base, tmp_path / "tuned", untie)
    change_config(tuned, tie_word_embeddings=False)
    out = tmp_path / "out"
    found = take_out(tiny_base, tuned, 8, out)
    assert found.adapter.ranks == {"lm_head": 3, EMBEDDING: 2}
    torch.testing.assert_close(logits_of(tiny_base, out), logits_of(tuned), rtol=0, atol=1e-4)


def test_weights_kept_as_in_by_out_come_back(tmp_path: Path) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=80, n_positions=64, n_embd=32, n_layer=1, n_head=2)
    base = tmp_path / "base"
    GPT2LMHeadModel(shape).save_pretrained(base)  # type: ignore[no-untyped-call]
    attention = "transformer.h.0.attn"

    def change(weights: "dict[str, torch.Tensor]") -> None:
        add(weights, f"{attention}.c_attn", rank=3)
        add(weights, f"{attention}.c_proj", rank=2)  # square: its shape does not tell

    tuned = tune(base, tmp_path / "tuned", change)
    out = tmp_path / "out"
    found = take_out(base, tuned, 4, out)
    assert found.adapter.ranks == {f"{attention}.c_attn": 3, f"{attention}.c_proj": 2}
    assert json.loads((out / "adapter_config.json").read_text())["fan_in_fan_out"] is True
    torch.testing.assert_close(logits_of(base, out), logits_of(tuned), rtol=0, atol=1e-4)


def test_an_embedding_that_vllm_would_leave_out_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GPT2Config(vocab_size=80, n_positions=64, n_embd=32, n_layer=1, n_head=2)
    base = tmp_path / "base"
    GPT2LMHeadModel(shape).save_pretrained(base)  # type: ignore[no-untyped-call]
    tuned = tune(base, tmp_path / "tuned", lambda w: add(w, "transformer.wte", rank=2))
    reason = "vLLM applies no LoRA to it in a GPT2LMHeadModel"
    with pytest.raises(MergeError, match=rf"transformer\.wte \({reason}.*lm_head \({reason}"):
        take_out(base, tuned, 4, tmp_path / "out")


def test_another_vocabulary_is_told_by_its_shapes(tiny_base: Path, tmp_path: Path) -> None:
    import torch

    def grow(weights: "dict[str, torch.Tensor]") -> None:
        name = f"{EMBEDDING}.weight"
        weights[name] = torch.cat([weights[name], weights[name][:2]])
        add(weights, Q_PROJ, rank=2)

    tuned = tune(tiny_base, tmp_path / "tuned", grow)
    change_config(tuned, vocab_size=260)
    with pytest.raises(MergeError) as caught:
        take_out(tiny_base, tuned, 2, tmp_path / "out")
    shapes = "its shape is [258, 64] in the base, [260, 64] in the fine-tune"
    for module in (EMBEDDING, "lm_head"):
        assert f"{module} ({shapes})" in caught.value.message


def test_the_fine_tunes_own_template_goes_with_the_adapter(tiny_base: Path, tmp_path: Path) -> None:
    tuned = tune(tiny_base, tmp_path / "tuned", lambda w: add(w, Q_PROJ, rank=2))
    (tuned / "chat_template.jinja").write_text(NO_END)
    found = take_out(tiny_base, tuned, 2, tmp_path / "out")
    assert found.template
    assert metadata_of(tmp_path / "out")["serving_profile"] == {"chat_template": NO_END}


def test_models_that_cannot_be_compared_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tuned = tune(tiny_base, tmp_path / "tuned", lambda w: add(w, Q_PROJ, rank=2))
    with pytest.raises(MergeError, match="rank: must be a whole number from 1, not 0"):
        take_out(tiny_base, tuned, 0, out)
    out.mkdir()
    with pytest.raises(MergeError, match="out is there already"):
        take_out(tiny_base, tuned, 2, out)
    out.rmdir()
    with pytest.raises(MergeError, match=r"the fine-tune .*nowhere: .* holds no readable config"):
        extract(tiny_base, tmp_path / "nowhere", 2, out, cache_dir=tmp_path / "cache")
    change_config(tuned, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(MergeError, match=r"the fine-tune is quantized \(gptq\)"):
        take_out(tiny_base, tuned, 2, out)
    change_config(
        tuned, quantization_config=None, model_type="qwen2", architectures=["Qwen2ForCausalLM"]
    )
    with pytest.raises(MergeError, match="is a Qwen2ForCausalLM and the base a LlamaForCausalLM"):
        take_out(tiny_base, tuned, 2, out)
    assert not out.exists()


def test_a_diverged_fine_tune_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    def diverge(weights: "dict[str, torch.Tensor]") -> None:
        weights[f"{Q_PROJ}.weight"][0, 0] = float("nan")

    tuned = tune(tiny_base, tmp_path / "tuned", diverge)
    with pytest.raises(MergeError, match=f"{Q_PROJ}: .* holds NaN or infinity"):
        take_out(tiny_base, tuned, 2, tmp_path / "out")


@dataclass(frozen=True)
class Returned:
    """A merged adapter taken out again. Logit differences are the largest, on one text."""

    found: Extracted
    effect: float
    off: float


def test_the_embedded_models_adapter_comes_back(embedded_model: Path, tmp_path: Path) -> None:
    """Rank 32, merged in the type the base is stored in, whose rounding is all that is lost."""
    returned = _there_and_back(embedded_model, tmp_path, layers=range(4), rank=32)
    assert returned.found.left_out == ()
    assert returned.found.energy > 0.99
    assert returned.effect > 1
    assert returned.off < 0.05 * returned.effect


def _there_and_back(base: Path, folder: Path, layers: range, rank: int) -> Returned:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=["q_proj", "o_proj", "down_proj"],
        layers_to_transform=list(layers),
        init_lora_weights=False,
    )
    adapted: Any = get_peft_model(model, config)
    adapted.save_pretrained(folder / "adapter")
    adapted.merge_and_unload().save_pretrained(folder / "merged")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(base / file, folder / "merged")
    found = take_out(base, folder / "merged", rank, folder / "out")
    before, there, back = logits_of(base, None, folder / "adapter", folder / "out")
    return Returned(found, float((there - before).abs().max()), float((back - there).abs().max()))
