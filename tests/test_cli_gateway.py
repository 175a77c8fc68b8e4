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
    first = json_of(gateway, f"adapters push life/support {folder} --promote --force")
    assert (first["version"], first["state"]) == (1, "live")
    folder = good_adapter(tmp_path / "two", gateway.base, seed=2)
    assert json_of(gateway, f"adapters push life/support {folder}")["state"] == "candidate"
    unjudged = run(gateway, "adapters promote life/support@2")
    assert unjudged.exit_code == 1
    assert "evaluate it, or promote it with force (here: --force)" in unjudged.stderr
    judged = json_of(gateway, "adapters evaluate life/support@2 --passed --reason good")
    assert (judged["verdict"], judged["state"]) == ("passed", "passed")
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
    forced = [one["forced"] for one in history if one["action"] == "promote"]
    assert forced == [False, True]
    shown = text_of(gateway, "adapters history life/support")
    assert "promote (forced)" in " ".join(shown.split())
    assert json_of(gateway, "tenants delete life")["deleted"]


def test_a_pass_that_is_required_is_not_forced(gateway: RunningGateway, tmp_path: Path) -> None:
    run(gateway, "tenants create strict")
    manager = json_of(gateway, "keys create strict --scope manage --expires 30d")
    assert manager["expires_at"] is not None
    policy = json_of(gateway, "tenants policy strict --require-pass")["policy"]
    assert policy == {"allow_base": True, "require_pass": True}
    assert "needs a pass to promote  yes" in text_of(gateway, "tenants policy strict")
    folder = good_adapter(tmp_path / "one", gateway.base, seed=6)
    push = run(gateway, f"adapters push strict/support {folder} --promote --force", manager["key"])
    assert push.exit_code == 1
    assert "strict/support@1 was pushed but not promoted: " in push.stderr
    assert "policy requires" in push.stderr
    own = run(gateway, "adapters evaluate strict/support@1 --passed", manager["key"])
    assert own.exit_code == 1
    assert "record it with the admin key" in own.stderr
    report = tmp_path / "report.json"
    report.write_text('{"accuracy": 0.9}')
    evaluate = f"adapters evaluate strict/support@1 --passed --report {report}"
    assert json_of(gateway, evaluate)["state"] == "passed"
    assert json_of(gateway, "adapters promote strict/support@1", manager["key"])["live"] == 1


def test_what_is_kept_of_a_version(gateway: RunningGateway, tmp_path: Path) -> None:
    run(gateway, "tenants create kept")
    lineage, evaluation = tmp_path / "lineage.yaml", tmp_path / "evaluation.json"
    lineage.write_text("dataset: d1\nrecipe: {epochs: 3}\n")
    evaluation.write_text('{"verdict": "passed", "report": {"accuracy": 0.9}}')
    for number, flags in ((1, ""), (2, f"--lineage {lineage} --evaluation {evaluation}")):
        folder = good_adapter(tmp_path / str(number), gateway.base, seed=6 + number)
        json_of(gateway, f"adapters push kept/support {folder} --reason r{number} {flags}")
        # Until then the gateway may still be at it, in the background.
        assert json_of(gateway, f"adapters prove kept/support@{number}")["proof"] == "proved"
    record = json_of(gateway, "adapters show kept/support@2")
    assert record["lineage"]["dataset"] == "d1"
    assert record["evaluation"] == {"verdict": "passed", "report": {"accuracy": 0.9}}
    shown = text_of(gateway, "adapters show kept/support@2")
    for name in ("lineage.recipe.epochs", "evaluation.report.accuracy", "proof_figures.noise"):
        assert name in shown
    assert "# kept/support@2" in text_of(gateway, "adapters card kept/support@2")
    diff = json_of(gateway, "adapters diff kept/support@1 kept/support@2")["differences"]
    found = {each["field"]: (each["first"], each["second"]) for each in diff}
    assert found["lineage.dataset"] == (None, "d1")
    assert found["state"] == ("candidate", "passed")
    assert "files.adapter_model.safetensors" in found
    assert "version" not in found
    assert "@1 is proved.\n" in text_of(gateway, "adapters prove kept/support@1")
    history = json_of(gateway, "adapters history kept/support")["data"]
    assert {one["reason"] for one in history if one["action"] == "push"} == {"r1", "r2"}


def test_a_tenant_comes_back_and_moves(gateway: RunningGateway, tmp_path: Path) -> None:
    run(gateway, "tenants create back")
    folder = good_adapter(tmp_path / "one", gateway.base, seed=9)
    json_of(gateway, f"adapters push back/support {folder} --promote --force")
    old = json_of(gateway, "keys create back --scope manage")
    deleted = json_of(gateway, "tenants delete back --reason test")
    assert deleted["purge_at"] is not None
    assert "back" in text_of(gateway, "tenants list --deleted")
    assert run(gateway, "adapters list back", old["key"]).exit_code == 1
    assert json_of(gateway, "tenants restore back")["name"] == "back"
    assert json_of(gateway, "adapters list back")["data"][0]["live"] == 1
    assert json_of(gateway, "keys list back")["data"] == []
    file = tmp_path / "back.tar"
    assert json_of(gateway, f"tenants export back --out {file}")["size_bytes"] > 0
    assert json_of(gateway, f"tenants import {file} --name moved")["name"] == "moved"
    (adapter,) = json_of(gateway, "adapters list moved")["data"]
    (original,) = json_of(gateway, "adapters list back")["data"]
    assert [one["digest"] for one in adapter["versions"]] == [
        one["digest"] for one in original["versions"]
    ]
    assert "already" in run(gateway, f"tenants import {file}").stderr


def test_a_key_is_rotated(gateway: RunningGateway) -> None:
    run(gateway, "tenants create turning")
    old = json_of(gateway, "keys create turning --scope manage --name ci")
    new = json_of(gateway, f"keys rotate turning {old['id']} --overlap 0s")
    assert (new["name"], new["scopes"]) == ("ci", ["manage"])
    assert run(gateway, "keys list turning", old["key"]).exit_code == 1
    assert run(gateway, "keys list turning", new["key"]).exit_code == 0


def test_the_care_of_the_installation(gateway: RunningGateway) -> None:
    assert json_of(gateway, "gc --grace 12h")["freed_bytes"] == 0
    assert text_of(gateway, "gc --grace 12h").startswith("Removed 0 artifacts, 0 B; kept ")
    assert json_of(gateway, "verify")["damaged"] == []
    assert text_of(gateway, "verify").endswith(": none damaged.\n")
    newest, second = json_of(gateway, "audit --limit 2")["data"]
    (older,) = json_of(gateway, f"audit --limit 1 --before {newest['id']}")["data"]
    assert older == second
    assert f"{newest['id']}  " in text_of(gateway, "audit")


def test_every_table_shows_what_the_gateway_says(gateway: RunningGateway, tmp_path: Path) -> None:
    folder = good_adapter(tmp_path / "one", gateway.base, seed=3)
    run(gateway, "tenants create tables")
    run(gateway, f"adapters push tables/support {folder} --promote --force")
    assert "tables yes no" in " ".join(text_of(gateway, "tenants list").split())
    key_id = json_of(gateway, "keys create tables --name ci")["id"]
    assert f"{key_id}  ci" in text_of(gateway, "keys list tables")
    assert "tables/support    @1         1" in text_of(gateway, "adapters list tables")
    wrong = run(gateway, "adapters list tables/support")
    assert (wrong.exit_code, "loraplex adapters show tables/support" in wrong.stderr) == (2, True)
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
    first = json_of(gateway, f"adapters push again/support {folder} --promote --force")
    json_of(gateway, "adapters prove again/support@1")  # so that it changes no more
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
