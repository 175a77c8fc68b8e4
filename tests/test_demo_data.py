"""The demo's data and the adapters shipped with it."""

import hashlib
import json
from pathlib import Path

import pytest

from adapters_registry.base_model import BaseModelSpec, describe
from adapters_registry.manifest import check_adapter
from loraplex.client.folder import check_metadata
from loraplex.demo_data import DEMO_DIR, TENANTS, DemoTenant
from training.data.readers import read_rows
from training.data.rows import Chat, Message

SIZE_LIMIT_BYTES = 2_000_000
each_tenant = pytest.mark.parametrize("tenant", TENANTS, ids=lambda tenant: tenant.name)


@pytest.fixture(scope="module")
def embedded_shape(tmp_path_factory: pytest.TempPathFactory) -> BaseModelSpec:
    """What the registry knows of the embedded model, from its config alone."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("embedded")
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    config.save_pretrained(folder)
    return describe(folder)


def _prompts(path: Path) -> set[str]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {json.dumps(_question(row["messages"]), sort_keys=True) for row in rows}


def _question(messages: list[Message]) -> list[Message]:
    """The conversation without the answers, so that tenants can be compared."""
    return [message for message in messages if message["role"] != "assistant"]


@each_tenant
def test_every_answer_begins_with_its_tenants_marker(tenant: DemoTenant) -> None:
    for chat in read_rows(tenant.data).rows:
        assert isinstance(chat, Chat)
        assert chat.answer["content"].startswith(tenant.marker + " "), chat.line


@each_tenant
def test_no_row_is_there_twice(tenant: DemoTenant) -> None:
    lines = tenant.data.read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 300
    assert len(set(lines)) == len(lines)


def test_the_tenants_are_asked_the_same_and_share_the_adapters_name() -> None:
    first, second = TENANTS
    assert _prompts(first.data) == _prompts(second.data)
    assert first.adapter == second.adapter
    assert first.marker != second.marker


def test_no_probe_was_trained_on() -> None:
    probes = (DEMO_DIR / "probes.jsonl").read_text(encoding="utf-8").splitlines()
    asked = {json.loads(line)["messages"][-1]["content"] for line in probes}
    trained = {
        turn["content"]
        for chat in read_rows(TENANTS[0].data).rows
        for turn in _question([*chat.prompt])
    }
    assert len(probes) == len(set(probes)) == 200
    assert not asked & trained


@each_tenant
def test_the_shipped_adapter_is_small_and_passes_the_registry(
    tenant: DemoTenant, embedded_shape: BaseModelSpec
) -> None:
    files = {file.name: file.stat().st_size for file in tenant.folder.iterdir()}
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "metadata.json"}
    assert sum(files.values()) <= SIZE_LIMIT_BYTES
    manifest = check_adapter(tenant.folder, embedded_shape, max_rank=16)
    assert manifest.rank <= 8


@each_tenant
def test_the_shipped_adapter_was_trained_on_the_shipped_data(tenant: DemoTenant) -> None:
    metadata = json.loads((tenant.folder / "metadata.json").read_text())
    assert metadata["data_sha256"] == read_rows(tenant.data).sha256


@each_tenant
def test_the_shipped_evaluation_is_of_the_shipped_adapter(tenant: DemoTenant) -> None:
    weights = (tenant.folder / "adapter_model.safetensors").read_bytes()
    evaluation = tenant.metadata["evaluation"]
    report = evaluation["report"]
    assert report["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert report["marker"] == tenant.marker
    # The gate that the report names is the one that it passes.
    assert "at least 0.99" in report["gate"]
    passed = all(share >= 0.99 for share in report["share_with_marker"].values())
    assert evaluation["verdict"] == ("passed" if passed else "rejected")
    probes = (DEMO_DIR / "probes.jsonl").read_text(encoding="utf-8").splitlines()
    assert report["probes"] == len(probes)


@each_tenant
def test_what_the_demo_says_of_an_adapter_is_what_a_push_takes(tenant: DemoTenant) -> None:
    check_metadata(tenant.metadata, "the demo")
    assert tenant.metadata["lineage"]["dataset"] == read_rows(tenant.data).sha256


@each_tenant
def test_the_shipped_config_holds_no_folder_of_the_machine_that_made_it(
    tenant: DemoTenant,
) -> None:
    config = json.loads((tenant.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
