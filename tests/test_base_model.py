"""What is known of a base model: every module with its shape, its template, its name."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_registry import base_model
from adapters_registry.base_model import BaseModelSpec, ModuleSpec, describe, load_spec
from adapters_registry.embedded import HUB_ID
from adapters_registry.errors import ModelError
from adapters_registry.manifest import check_adapter
from tests.adapters_for_tests import make_config, make_tensors, write_adapter

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "vocab_size": 64,
    "max_position_embeddings": 128,
}


def model_dir(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def spec(embedded_model: Path) -> BaseModelSpec:
    """The embedded model's."""
    return describe(embedded_model)


def linear(rows: int, columns: int) -> ModuleSpec:
    return ModuleSpec(kind="linear", out_features=rows, in_features=columns)


def test_the_embedded_model_is_described_whole(spec: BaseModelSpec, embedded_model: Path) -> None:
    assert (spec.name, spec.architecture, spec.model_type) == (HUB_ID, "LlamaForCausalLM", "llama")
    assert spec.max_model_len == 8192
    assert spec.chat_template == (embedded_model / "chat_template.jinja").read_text()
    assert len(spec.modules) == 30 * 7 + 2
    assert spec.modules["model.layers.29.self_attn.k_proj"] == linear(192, 576)
    assert spec.modules["model.layers.0.mlp.down_proj"] == linear(576, 1536)
    assert spec.modules["lm_head"] == linear(49152, 576)
    assert spec.modules["model.embed_tokens"] == ModuleSpec(
        kind="embedding", out_features=576, in_features=49152
    )


def test_an_adapter_for_the_embedded_model_passes(spec: BaseModelSpec, tmp_path: Path) -> None:
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    tensors = make_tensors(spec, targets=targets, dtype=np.float16)
    found = check_adapter(write_adapter(tmp_path, make_config(spec), tensors), spec, 16)
    assert (found.modules, found.warnings) == (210, ())


def test_a_gpt2s_conv1d_is_a_linear_the_other_way_round(tmp_path: Path) -> None:
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": 8,
        "n_head": 2,
        "n_layer": 1,
        "n_positions": 32,
        "vocab_size": 64,
    }
    found = describe(model_dir(tmp_path, config))
    turned = {"fan_in_fan_out": True}
    assert found.modules["transformer.h.0.attn.c_attn"] == linear(24, 8).model_copy(update=turned)
    assert found.modules["transformer.h.0.mlp.c_fc"] == linear(32, 8).model_copy(update=turned)
    assert found.modules["lm_head"] == linear(64, 8)
    assert found.max_model_len == 32
    assert (found.embedding, found.head, found.tied) == ("transformer.wte", "lm_head", True)


@pytest.mark.parametrize("tied", [True, False])
def test_whether_both_embeddings_are_one_weight_is_told(tmp_path: Path, tied: bool) -> None:
    found = describe(model_dir(tmp_path, LLAMA | {"tie_word_embeddings": tied}))
    assert (found.embedding, found.head, found.tied) == ("model.embed_tokens", "lm_head", tied)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "no-such-model"}, "config.json cannot be used"),
        ({}, "config.json cannot be used"),
        (
            {
                "model_type": "evil",
                "architectures": ["Evil"],
                "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
            },
            "config.json cannot be used",
        ),
        (LLAMA | {"hidden_size": "many"}, "config.json cannot be used"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(
    config: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = model_dir(tmp_path, config)
    (folder / "evil.py").write_text("raise SystemExit('code of a model was run')")
    with pytest.raises(ModelError, match=reason):
        describe(folder)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no readable config\.json"):
        load_spec(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("tokenizer", "template"),
    [
        ({"chat_template": "one"}, "one"),
        (
            {
                "chat_template": [
                    {"name": "rag", "template": "a"},
                    {"name": "default", "template": "b"},
                ]
            },
            "b",
        ),
        ({"chat_template": [{"name": "rag", "template": "a"}]}, None),
        ({}, None),
    ],
)
def test_the_template_of_the_tokenizers_configuration(
    tokenizer: dict[str, Any], template: str | None, tmp_path: Path
) -> None:
    folder = model_dir(tmp_path, LLAMA)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert describe(folder).chat_template == template
    (folder / "chat_template.jinja").write_text("a file of its own")
    assert describe(folder).chat_template == "a file of its own"


@pytest.mark.parametrize(
    ("folder", "named", "name"),
    [
        ("mine", {}, "mine"),
        ("mine", {"_name_or_path": "owner/name"}, "owner/name"),
        ("mine", {"_name_or_path": "/home/me/secret"}, "mine"),
        ("models--Qwen--Qwen3-0.6B/snapshots/abc", {"_name_or_path": "x/y"}, "Qwen/Qwen3-0.6B"),
    ],
)
def test_the_name_is_the_hub_id_where_that_is_known(
    folder: str, named: dict[str, str], name: str, tmp_path: Path
) -> None:
    assert describe(model_dir(tmp_path / folder, LLAMA | named)).name == name


_LOOKS = """
import sys
from pathlib import Path
from adapters_registry.base_model import load_spec
spec = load_spec(Path(sys.argv[1]), Path(sys.argv[2]))
print(len(spec.modules), "torch" in sys.modules)
"""


def test_the_caller_of_load_spec_never_imports_torch(tmp_path: Path) -> None:
    folder = model_dir(tmp_path / "model", LLAMA)
    said = subprocess.run(
        [sys.executable, "-c", _LOOKS, str(folder), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said == "16 False\n"
    cached = list((tmp_path / "cache" / "base-models").iterdir())
    assert len(cached) == 1
    assert BaseModelSpec.model_validate_json(cached[0].read_bytes()) == describe(folder)


def test_a_description_is_kept_until_the_model_changes_or_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(_module: str, words: list[str]) -> None:
        """The child's work; that it is done in a child, the test above shows."""
        base_model._write(describe(Path(words[0])), Path(words[1]))

    monkeypatch.setattr(base_model, "run_child", here)
    folder, cache_dir = model_dir(tmp_path / "model", LLAMA), tmp_path / "cache"
    first = load_spec(folder, cache_dir)
    cached = next((cache_dir / "base-models").iterdir())
    marked = first.model_copy(update={"architecture": "FromTheCache"})
    cached.write_text(marked.model_dump_json())
    assert load_spec(folder, cache_dir) == marked
    cached.write_text("{half")
    assert load_spec(folder, cache_dir) == first
    (folder / "chat_template.jinja").write_text("new")
    assert load_spec(folder, cache_dir) == first.model_copy(update={"chat_template": "new"})
