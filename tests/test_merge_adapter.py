"""Adapters read from their folders: PEFT's rules, old spellings, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from training.errors import MergeError
from training.merge.adapter_config import read_config
from training.merge.adapter_folder import open_adapter
from training.merge.lora import LoraShape

MODULE = "model.layers.0.self_attn.q_proj"
PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}


def _save(folder: Path, tensors: dict[str, torch.Tensor], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**PLAIN, **config}))
    save_file(
        {f"base_model.model.{name}": tensor.contiguous() for name, tensor in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


def _factors(path: str = MODULE, rank: int = 2) -> dict[str, torch.Tensor]:
    return {
        f"{path}.lora_A.weight": torch.full((rank, 6), 0.5),
        f"{path}.lora_B.weight": torch.full((4, rank), 0.25),
    }


def test_a_module_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    adapter = open_adapter(_save(tmp_path / "a", _factors()))
    assert adapter.paths == (MODULE,)
    assert adapter.shapes == {MODULE: LoraShape("linear", out_features=4, in_features=6)}
    module = adapter.load(MODULE)
    assert (module.path, module.kind, module.scaling) == (MODULE, "linear", 2.0)
    assert torch.equal(module.a, torch.full((2, 6), 0.5))
    assert torch.equal(module.b, torch.full((4, 2), 0.25))
    assert (module.magnitude, module.bias, adapter.saved, adapter.tokens) == (None, None, {}, {})


@pytest.mark.parametrize(
    ("fields", "path", "scaling"),
    [
        ({}, MODULE, 2.0),
        ({"use_rslora": True}, MODULE, 4 / 2**0.5),
        ({"rank_pattern": {"q_proj": 8}}, MODULE, 0.5),
        ({"rank_pattern": {"q_proj": 8}, "use_rslora": True}, MODULE, 4 / 8**0.5),
        ({"alpha_pattern": {"q_proj": 1}}, MODULE, 0.5),
        ({"alpha_pattern": {"proj": 1}}, MODULE, 2.0),
        ({"alpha_pattern": {r"layers\.[0-3]\..*": 1}}, MODULE, 0.5),
        ({"alpha_pattern": {r"^model.layers.0.self_attn.q_proj": 1}}, MODULE, 0.5),
        ({"alpha_pattern": {"attn.q_proj": 1, "q_proj": 3}}, MODULE, 1.5),
        ({"alpha_pattern": {"q_proj": 1, "self_attn.q_proj": 3}}, MODULE, 0.5),
    ],
)
def test_ranks_and_alphas_go_by_pefts_patterns(
    tmp_path: Path, fields: dict[str, Any], path: str, scaling: float
) -> None:
    config = read_config(_save(tmp_path / "a", {}, **fields))
    assert config.scaling_of(path) == pytest.approx(scaling)


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: name.replace(".weight", ".default.weight"),
        lambda name: name.replace(".weight", ".my-adapter.weight"),
    ],
)
def test_older_spellings_are_read(tmp_path: Path, renamed: Any) -> None:
    tensors = {renamed(name): tensor for name, tensor in _factors().items()}
    adapter = open_adapter(_save(tmp_path / "a", tensors))
    assert torch.equal(adapter.load(MODULE).a, torch.full((2, 6), 0.5))


@pytest.mark.parametrize("end", ["", ".weight", ".default", ".default.weight"])
def test_magnitudes_are_read_in_all_spellings(tmp_path: Path, end: str) -> None:
    tensors = {**_factors(), f"{MODULE}.lora_magnitude_vector{end}": torch.ones(4)}
    module = open_adapter(_save(tmp_path / "a", tensors, use_dora=True)).load(MODULE)
    assert module.magnitude is not None
    assert torch.equal(module.magnitude, torch.ones(4))


def test_embeddings_biases_and_whole_tensors_are_told_apart(tmp_path: Path) -> None:
    tensors = {
        **_factors(),
        f"{MODULE}.lora_B.bias": torch.ones(4),
        "model.embed_tokens.lora_embedding_A": torch.ones(2, 10),
        "model.embed_tokens.lora_embedding_B": torch.ones(6, 2),
        "model.embed_tokens.base_layer.weight": torch.ones(10, 6),
        "model.norm.weight": torch.ones(6),
        "lm_head.modules_to_save.default.weight": torch.ones(10, 6),
        f"{MODULE}.base_layer.bias": torch.ones(4),
    }
    adapter = open_adapter(_save(tmp_path / "a", tensors, modules_to_save=["lm_head", "norm"]))
    assert adapter.shapes == {
        MODULE: LoraShape("linear", 4, 6, bias=True),
        "model.embed_tokens": LoraShape("embedding", 6, 10),
    }
    bias = f"{MODULE}.bias"
    embedding = "model.embed_tokens.weight"
    assert adapter.saved.keys() == {"model.norm.weight", "lm_head.weight", bias, embedding}
    assert adapter.shared == {bias, embedding}


@pytest.mark.parametrize(
    ("indices", "paths"),
    [
        ([3, 1], ["model.embed_tokens"]),
        ({"embed_tokens": [3, 1]}, ["model.embed_tokens"]),
        ({"lm_head": [3, 1], "model.embed_tokens": [4, 5]}, ["model.embed_tokens", "lm_head"]),
    ],
)
def test_trained_tokens_know_their_numbers(tmp_path: Path, indices: Any, paths: list[str]) -> None:
    tensors = {f"{p}.token_adapter.trainable_tokens_delta": torch.ones(2, 6) for p in paths}
    folder = _save(tmp_path / "a", tensors, trainable_token_indices=indices)
    tokens = open_adapter(folder).tokens
    assert tokens.keys() == set(paths)
    assert tokens[paths[-1]].indices == (3, 1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"peft_type": "LOHA"}, "peft_type: 'LOHA' is not merged"),
        ({"peft_type": "XLORA"}, "peft_type"),
        ({"init_lora_weights": "pissa_niter_4"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "olora"}, "init_lora_weights: 'olora'"),
        ({"init_lora_weights": "corda"}, "init_lora_weights: 'corda'"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights: 'loftq'"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"kasa_config": {"beta": 1}}, "kasa_config"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora"),
        ({"r": 0}, "r: must be a whole number"),
        ({"r": True}, "r: must be a whole number"),
        ({"lora_alpha": "8"}, "lora_alpha: must be a finite number"),
        ({"rank_pattern": {"(": 4}}, "rank_pattern: '(' is no regular expression"),
        ({"use_dora": "yes"}, "use_dora: must be true or false"),
        ({"trainable_token_indices": [-1]}, "trainable_token_indices"),
    ],
)
def test_what_has_no_plain_merge_is_refused_by_name(
    tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    folder = _save(tmp_path / "a", _factors(), **fields)
    with pytest.raises(MergeError) as refused:
        open_adapter(folder)
    assert said in refused.value.message
    assert str(folder) in refused.value.message


@pytest.mark.parametrize(
    ("tensors", "fields", "said"),
    [
        ({f"{MODULE}.lora_A.weight": torch.ones(2, 6)}, {}, "must hold an A and a B"),
        (_factors(rank=3), {}, "A has 3 rows and B 3 columns, and the rank"),
        (_factors(), {"use_dora": True}, "use_dora is true in adapter_config.json"),
        (
            {**_factors(), f"{MODULE}.lora_magnitude_vector": torch.ones(4)},
            {},
            "use_dora is false in adapter_config.json",
        ),
        (
            {**_factors(), f"{MODULE}.lora_magnitude_vector": torch.ones(6)},
            {"use_dora": True},
            "has the shape [6] beside 4 rows of B",
        ),
        ({**_factors(), f"{MODULE}.lora_diag": torch.ones(2)}, {}, "is of no kind of LoRA"),
        (
            {**_factors(), f"{MODULE}.lora_A.default.weight": torch.ones(2, 6)},
            {},
            "under another spelling too",
        ),
        (
            {"c.lora_A.weight": torch.ones(2, 3, 1, 1), "c.lora_B.weight": torch.ones(4, 2, 1, 1)},
            {},
            "LoRA of convolutions",
        ),
        (
            {"model.embed_tokens.token_adapter.trainable_tokens_delta": torch.ones(2, 6)},
            {"trainable_token_indices": [1]},
            "2 rows are not the 1 of",
        ),
        ({}, {}, "holds no tensor"),
    ],
)
def test_tensors_that_do_not_fit_the_configuration_are_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], fields: dict[str, Any], said: str
) -> None:
    folder = _save(tmp_path / "a", tensors, **fields)
    with pytest.raises(MergeError) as refused:
        open_adapter(folder)
    assert said in refused.value.message
    assert str(folder) in refused.value.message


def test_a_value_that_is_no_number_is_refused_when_it_is_read(tmp_path: Path) -> None:
    tensors = _factors()
    tensors[f"{MODULE}.lora_B.weight"][1, 1] = torch.nan
    adapter = open_adapter(_save(tmp_path / "a", tensors))
    with pytest.raises(MergeError, match=r"q_proj\.lora_B\.weight holds NaN or Inf"):
        adapter.load(MODULE)


@pytest.mark.parametrize("more", range(32))
def test_no_length_of_a_header_is_taken_for_a_pickle(tmp_path: Path, more: int) -> None:
    """Some lengths begin with the byte that pickles begin with."""
    path = f"{MODULE}{'x' * 4 * more}"
    assert open_adapter(_save(tmp_path / "a", _factors(path))).paths == (path,)


def test_the_lineage_beside_it_is_read(tmp_path: Path) -> None:
    folder = _save(tmp_path / "a", _factors())
    assert open_adapter(folder).lineage.base.name is None
    (folder / "metadata.json").write_text('{"lineage": {"base": {"name": "org/base"}}}')
    assert open_adapter(folder).lineage.base.name == "org/base"
    (folder / "metadata.json").write_text("[]")
    with pytest.raises(MergeError, match=r"metadata\.json cannot be read"):
        open_adapter(folder)


def test_the_digest_is_the_registrys(tmp_path: Path) -> None:
    from adapters_registry.artifacts import ArtifactStore

    folder = _save(tmp_path / "a", _factors())
    stored = ArtifactStore(tmp_path / "store").put(folder)
    assert open_adapter(folder).sha256 == stored.digest


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    folder = _save(tmp_path / "a", _factors())
    (folder / missing).unlink()
    with pytest.raises(MergeError, match=missing):
        open_adapter(folder)
