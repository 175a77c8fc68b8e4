"""The command against the real gateway and its real registry: an adapter's whole life."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from loraplex.cli import app
from tests.adapters_for_tests import good_adapter
from tests.fake_engine import FakeEngine
from tests.running_gateway import ADMIN_KEY, BASE, RunningGateway, TinyModel, running_gateway


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel
) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("cli")
    engine = FakeEngine.start("--served-model-name", BASE)
    try:
        with running_gateway(engine, folder, tiny_model) as running:
            yield running
    finally:
        engine.stop()


def run(gateway: RunningGateway, words: str, key: str = ADMIN_KEY) -> Result:
    return CliRunner().invoke(
        app, words.split(), env={"LORAPLEX_URL": gateway.url, "LORAPLEX_KEY": key}
    )


def json_of(gateway: RunningGateway, words: str, key: str = ADMIN_KEY) -> Any:
    result = run(gateway, f"{words} --json", key)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def text_of(gateway: RunningGateway, words: str) -> str:
    result = run(gateway, words)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_life_of_an_adapter(gateway: RunningGateway, tmp_path: Path) -> None:
    assert json_of(gateway, "tenants create life")["name"] == "life"
    folder = good_adapter(tmp_path / "one", gateway.base, seed=1)
    first = json_of(gateway, f"adapters push life/support {folder} --promote")
    assert (first["version"], first["state"]) == (1, "live")
    folder = good_adapter(tmp_path / "two", gateway.base, seed=2)
    assert json_of(gateway, f"adapters push life/support {folder}")["state"] == "candidate"
    promoted = json_of(gateway, "adapters promote life/support@2 --reason better")
    assert promoted["live"] == 2
    stale = run(gateway, f"adapters rollback life/support --if-match {promoted['revision'] - 1}")
    assert stale.exit_code == 1
    rollback = f"adapters rollback life/support --if-match {promoted['revision']}"
    assert json_of(gateway, rollback)["live"] == 1
    assert run(gateway, "adapters delete life/support@1").exit_code == 1
    assert json_of(gateway, "adapters delete life/support@2")["deleted"]
    assert [one["version"] for one in json_of(gateway, "adapters show life/support")["data"]] == [1]
    assert json_of(gateway, "adapters show life/support@1")["digest"] == first["digest"]
    history = json_of(gateway, "adapters history life/support")["data"]
    moves = [(one["from"], one["to"]) for one in history if one["action"] != "push"]
    assert (1, 2) in moves
    assert (2, 1) in moves
    assert json_of(gateway, "tenants delete life")["deleted"]


def test_every_table_shows_what_the_gateway_says(gateway: RunningGateway, tmp_path: Path) -> None:
    folder = good_adapter(tmp_path / "one", gateway.base, seed=3)
    run(gateway, "tenants create tables")
    run(gateway, f"adapters push tables/support {folder} --promote")
    assert "tables  yes" in text_of(gateway, "tenants list")
    key_id = json_of(gateway, "keys create tables --name ci")["id"]
    assert f"{key_id}  ci" in text_of(gateway, "keys list tables")
    assert "tables/support    @1         1" in text_of(gateway, "adapters list tables")
    assert "tables/support" in text_of(gateway, "adapters list")
    assert "@1       live" in text_of(gateway, "adapters show tables/support")
    assert "tables/support@1" in text_of(gateway, "adapters show tables/support@1")
    assert "promote" in text_of(gateway, "adapters history tables/support")
    status = text_of(gateway, "status")
    assert status.startswith("The gateway is ready.")
    assert gateway.fake.url.removeprefix("http://") in status
    assert text_of(gateway, f"keys revoke tables {key_id}").startswith("Revoked")


def test_what_is_pulled_can_be_pushed_again(gateway: RunningGateway, tmp_path: Path) -> None:
    run(gateway, "tenants create again")
    folder = good_adapter(tmp_path / "one", gateway.base, seed=5)
    profile = {"system_prompt": "Be brief.", "sampling": {"temperature": 0}, "stop": ["END"]}
    (folder / "metadata.json").write_text(json.dumps({"serving_profile": profile}))
    first = json_of(gateway, f"adapters push again/support {folder} --promote")
    pulled = tmp_path / "made" / "pulled"
    assert json_of(gateway, f"adapters pull again/support --out {pulled}") == {
        **json_of(gateway, "adapters show again/support@1"),
        "path": str(pulled),
    }
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (pulled / name).read_bytes() == (folder / name).read_bytes()
    second = json_of(gateway, f"adapters push again/support {pulled}")
    assert second["version"] == 2
    for field in ("digest", "profile", "size_bytes"):
        assert second[field] == first[field]


def test_a_tenants_own_manager(gateway: RunningGateway, tmp_path: Path) -> None:
    run(gateway, "tenants create mine")
    made = json_of(gateway, "keys create mine --scope inference --scope manage")
    assert made["scopes"] == ["inference", "manage"]
    folder = good_adapter(tmp_path / "one", gateway.base, seed=4)
    pushed = json_of(gateway, f"adapters push mine/support {folder}", made["key"])
    assert pushed["version"] == 1
    assert [one["tenant"] for one in json_of(gateway, "adapters list", made["key"])["data"]] == [
        "mine"
    ]
    for words in ("list acme", "pull acme/support@1"):
        other = run(gateway, f"adapters {words}", made["key"])
        assert other.exit_code == 1
        assert other.stderr.startswith("error: ")


def test_a_bad_adapter_is_refused_in_words(gateway: RunningGateway, tmp_path: Path) -> None:
    folder = good_adapter(tmp_path / "bad", gateway.base, rank=64)
    result = run(gateway, f"adapters push acme/bad {folder}")
    assert result.exit_code == 1
    assert "rank" in result.stderr
    assert json_of(gateway, "adapters list acme")["data"] == []


def test_a_wrong_key(gateway: RunningGateway) -> None:
    result = run(gateway, "tenants list", "lpx_0123456789abcdef_wrong")
    assert result.exit_code == 1
    assert "does not know the key from LORAPLEX_KEY" in result.stderr
