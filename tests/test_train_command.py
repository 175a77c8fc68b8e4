"""`loraplex train`: usage, what it prints, how it ends, and what a registry gets of it."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner, Result

from adapters_registry.base_model import load_spec
from loraplex.cli import app
from loraplex.connection import Connection
from loraplex.refs import Ref
from loraplex.stages import Stages, duration
from loraplex.train_register import Registration
from tests.fake_engine import FakeEngine
from tests.running_gateway import ADMIN_KEY, BASE, RunningGateway, TinyModel, running_gateway
from tests.training_runs import JUDGED, FinishedRun, make_rows, right, write_rows, wrong
from training.recipe.loading import load_recipe


def run(finished: FinishedRun, *words: str | Path, **environ: str) -> Result:
    """The command with the cache of the finished run."""
    env = {"LORAPLEX_CACHE_DIR": str(finished.cache_dir), "COLUMNS": "100", **environ}
    return CliRunner().invoke(app, ["train", *map(str, words)], env=env)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "which recipe?"),
        ("nowhere.yaml", "nowhere.yaml: cannot be read"),
        ("--init", "--init needs --data"),
        ("RECIPE --data rows.jsonl", "--data goes with --init"),
        ("RECIPE --evaluate-at gateway", "needs --register"),
        ("RECIPE --url http://127.0.0.1:1", "go with --register"),
        ("RECIPE --register acme", "names no adapter"),
        ("RECIPE --set schedule.epoch=2", "epochs"),
        ("RECIPE --set method=dora --register acme/a", "cannot be served, so none is registered"),
        ("RECIPE --set gates=['exact_mach>=0.5']", "did you mean exact_match"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_why(
    finished_run: FinishedRun, words: str, told: str
) -> None:
    given = [str(finished_run.recipe) if one == "RECIPE" else one for one in words.split()]
    result = run(finished_run, *given)
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_init_writes_a_recipe_that_loads_and_never_over_another(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", make_rows())
    recipe = tmp_path / "new.yaml"
    result = run(finished_run, "--init", "--data", data, "--out", recipe)
    assert result.exit_code == 0, result.output
    assert f"loraplex train {recipe} --dry-run" in result.stdout
    assert load_recipe(recipe).data.train == data
    written = recipe.read_text()
    again = run(finished_run, "--init", "--data", data, "--out", recipe)
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    assert recipe.read_text() == written


def test_a_dry_run_checks_and_writes_nothing(finished_run: FinishedRun, tmp_path: Path) -> None:
    folder = tmp_path / "run.run"
    words = (finished_run.recipe, "--out", folder, "--dry-run")
    shown = run(finished_run, *words)
    assert shown.exit_code == 0, shown.output
    assert "Every check passed; nothing was written." in shown.stdout
    found = json.loads(run(finished_run, *words, "--json").stdout.splitlines()[-1])
    assert found["rows"] == finished_run.result.report.data.rows
    assert found["memory_bytes"] > 0
    assert not folder.exists()


def test_a_finished_run_is_shown_again(finished_run: FinishedRun, tmp_path: Path) -> None:
    folder = finished_run.copied(tmp_path / "copy")
    result = run(finished_run, finished_run.recipe, "--out", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Passed\n")
    assert "improves: exact_match by 0.5" in result.stdout
    assert f"Report:  {folder}/report.html" in result.stdout
    assert "--register TENANT/ADAPTER" in result.stdout


def test_the_last_line_is_json_for_programs(finished_run: FinishedRun, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    finished_run.judged_again(folder, candidate=wrong)
    result = run(finished_run, finished_run.recipe, "--out", folder, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout.splitlines()[-1])
    assert set(found) == {"adapter_dir", "verdict", "reasons", "report"}
    assert found["verdict"] == "rejected"
    assert found["adapter_dir"] == str(folder / "adapter")
    assert found["report"] == str(folder / "report.html")
    assert found["reasons"][0].startswith("improves: exact_match by 0.5: fail: exact_match")


def test_another_run_in_the_folder_is_refused(finished_run: FinishedRun, tmp_path: Path) -> None:
    folder = finished_run.copied(tmp_path / "copy")
    change = ("--set", "schedule.seed=1")
    result = run(finished_run, finished_run.recipe, "--out", folder, *change)
    assert result.exit_code == 1
    assert "holds another run" in result.stderr


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, finished_run: FinishedRun, tiny_base: Path
) -> Iterator[RunningGateway]:
    """A gateway that serves the runs' base."""
    spec = load_spec(tiny_base, finished_run.cache_dir)
    model = TinyModel(tiny_base, finished_run.cache_dir, spec)
    engine = FakeEngine.start("--served-model-name", BASE)
    try:
        with running_gateway(engine, tmp_path_factory.mktemp("train"), model) as running:
            running.keys["manager"] = running.admin(
                "POST", "/tenants/acme/keys", json={"scopes": ["inference", "manage"]}
            ).json()["key"]
            yield running
    finally:
        engine.stop()


def register(
    gateway: RunningGateway,
    finished: FinishedRun,
    folder: Path,
    adapter: str,
    *words: str,
    key: str = ADMIN_KEY,
) -> Result:
    words = ("--out", str(folder), "--register", f"acme/{adapter}", *words)
    environ = {"LORAPLEX_URL": gateway.url, "LORAPLEX_KEY": key}
    return run(finished, finished.recipe, *words, **environ)


def record(gateway: RunningGateway, adapter: str, number: int = 1) -> Any:
    path = f"/tenants/acme/adapters/{adapter}/versions/{number}"
    return gateway.admin("GET", path).json()


def test_a_passed_run_is_registered_once_and_can_go_live(
    gateway: RunningGateway, finished_run: FinishedRun, tmp_path: Path
) -> None:
    folder = finished_run.copied(tmp_path / "copy")
    first = register(gateway, finished_run, folder, "good", "--json")
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout.splitlines()[-1])["version"] == 1
    again = register(gateway, finished_run, folder, "good")
    assert "acme/good@1 (passed)" in again.stdout
    assert "loraplex adapters promote acme/good@1" in again.stdout
    kept = record(gateway, "good")
    assert kept["state"] == "passed"
    assert kept["lineage"]["dataset"] == finished_run.result.report.data.version
    assert kept["lineage"]["recipe"]["method"] == "lora"
    assert kept["evaluation"]["report"]["gates"][0]["outcome"] == "pass"
    versions = gateway.admin("GET", "/tenants/acme/adapters/good/versions").json()["data"]
    assert len(versions) == 1


def test_a_rejected_run_is_kept_with_its_report_and_not_promotable(
    gateway: RunningGateway, finished_run: FinishedRun, tmp_path: Path
) -> None:
    finished_run.judged_again(tmp_path / "copy", candidate=wrong)
    result = register(gateway, finished_run, tmp_path / "copy", "bad")
    assert result.exit_code == 1
    assert "acme/bad@1 (rejected)" in result.stdout
    assert record(gateway, "bad")["evaluation"]["report"]["verdict"] == "rejected"
    path = "/admin/v1/tenants/acme/adapters/bad/promote"
    assert gateway.call("POST", path, key=ADMIN_KEY, json={"version": 1}).status_code == 409


def test_an_inconclusive_run_is_a_candidate_without_a_verdict(
    gateway: RunningGateway, finished_run: FinishedRun, tmp_path: Path
) -> None:
    one_less = finished_run.but_one()
    finished_run.judged_again(tmp_path / "copy", candidate=one_less, live=right)
    result = register(gateway, finished_run, tmp_path / "copy", "unclear")
    assert result.exit_code == 1
    assert "acme/unclear@1 (candidate)" in result.stdout
    assert "loraplex adapters evaluate acme/unclear@1" in result.stdout
    assert record(gateway, "unclear")["evaluation"] is None


def test_a_candidate_is_judged_through_the_gateway(
    gateway: RunningGateway, finished_run: FinishedRun, tmp_path: Path
) -> None:
    live = finished_run.copied(tmp_path / "live")
    assert register(gateway, finished_run, live, "served").exit_code == 0
    path = "/tenants/acme/adapters/served"
    gateway.admin("POST", f"{path}/promote", json={"version": 1, "force": True})
    folder = finished_run.copied(tmp_path / "copy", *JUDGED)
    mark = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**mark, "id": "another"}))
    said = json.loads((folder / "adapter" / "metadata.json").read_text())
    said["lineage"]["recipe"]["run"] = "another"
    (folder / "adapter" / "metadata.json").write_text(json.dumps(said))
    keys = gateway.admin("GET", "/tenants/acme/keys").json()["data"]
    result = register(
        gateway,
        finished_run,
        folder,
        "served",
        "--evaluate-at",
        "gateway",
        key=gateway.keys["manager"],
    )
    # The fake engine gives every model the same kind of answer, so nothing improves.
    assert result.exit_code == 1, result.output
    kept = record(gateway, "served", 2)
    assert kept["state"] == "rejected"
    subjects = kept["evaluation"]["report"]["evaluation"]["subjects"]
    assert subjects == {"base": BASE, "candidate": "acme/served@2", "live": "acme/served@1"}
    asked = {call["body"]["model"] for call in gateway.fake.calls("/v1/chat/completions")}
    assert BASE in asked
    assert len(asked) == 3
    after = gateway.admin("GET", "/tenants/acme/keys").json()["data"]
    assert [one["id"] for one in after] == [one["id"] for one in keys]


def test_the_live_version_is_pulled_to_be_judged_beside_the_candidate(
    gateway: RunningGateway, finished_run: FinishedRun, tmp_path: Path
) -> None:
    folder = finished_run.copied(tmp_path / "copy")
    target = Registration(Connection(gateway.url, ADMIN_KEY, "a test"), Ref("acme", "pulled"))
    assert target.pull_live(tmp_path / "none") is None
    assert register(gateway, finished_run, folder, "pulled").exit_code == 0
    assert target.pull_live(tmp_path / "none") is None
    path = "/tenants/acme/adapters/pulled/promote"
    gateway.admin("POST", path, json={"version": 1, "force": True})
    found = target.pull_live(tmp_path / "live")
    assert found is not None
    live, told = found
    assert told.startswith("acme/pulled@1, digest ")
    weights = "adapter_model.safetensors"
    assert (live / weights).read_bytes() == (folder / "adapter" / weights).read_bytes()


def test_a_gateway_that_is_away_is_noticed_before_anything_is_trained(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    folder = tmp_path / "never.run"
    words = ("--out", folder, "--register", "acme/a", "--url", "http://127.0.0.1:1", "--key", "k")
    result = run(finished_run, finished_run.recipe, *words)
    assert result.exit_code == 1
    assert "cannot reach" in result.stderr
    assert not folder.exists()


@pytest.mark.parametrize(("key", "told"), [("unknown", "does not know the key"), ("acme", "403")])
def test_a_key_that_may_not_push_is_noticed_before_anything_is_trained(
    gateway: RunningGateway, finished_run: FinishedRun, tmp_path: Path, key: str, told: str
) -> None:
    folder = tmp_path / "never.run"
    result = register(gateway, finished_run, folder, "a", key=gateway.keys.get(key, "lpx_unknown"))
    assert result.exit_code == 1
    assert told in result.stderr or "manage" in result.stderr
    assert not folder.exists()


def test_a_verdict_that_only_the_operator_may_give_is_noticed_before(
    gateway: RunningGateway, finished_run: FinishedRun, tmp_path: Path
) -> None:
    gateway.admin("PATCH", "/tenants/acme", json={"policy": {"require_pass": True}})
    try:
        key = gateway.keys["manager"]
        result = register(gateway, finished_run, tmp_path / "never.run", "a", key=key)
    finally:
        gateway.admin("PATCH", "/tenants/acme", json={"policy": {"require_pass": False}})
    assert result.exit_code == 1
    assert "takes verdicts from the operator alone" in result.stderr
    assert not (tmp_path / "never.run").exists()


def test_a_push_that_fails_keeps_the_run(
    gateway: RunningGateway, finished_run: FinishedRun, tmp_path: Path
) -> None:
    folder = finished_run.copied(tmp_path / "copy")
    # The base model's name can name no adapter.
    result = register(gateway, finished_run, folder, BASE)
    assert result.exit_code == 1
    assert result.stdout.startswith("Passed\n")
    told = " ".join(result.stderr.split())
    assert "the run is finished, but it is not registered" in told
    assert "The same command registers it and trains nothing anew" in told
    assert register(gateway, finished_run, folder, "good-after-all").exit_code == 0


class Clock:
    """A clock that goes when it is told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def shown_stages(*, terminal: bool) -> tuple[Stages, io.StringIO, Clock]:
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, force_terminal=terminal, width=100, color_system=None)
    return Stages(console, Progress(console=console, disable=True), clock), out, clock


def test_each_stage_is_told_once_where_nothing_can_be_overwritten() -> None:
    stages, out, clock = shown_stages(terminal=False)
    stages("reading the data", None)
    for step in range(100):
        clock.now_s = float(step)
        stages(f"training: step {step} of 100, loss {100 - step}", step / 100)
    stages.end()
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["reading the data", "training"]
    assert lines[2:] == [
        "   30% training: step 30 of 100, loss 70",
        "   60% training: step 60 of 100, loss 40",
        "   90% training: step 90 of 100, loss 10",
    ]


def test_a_terminal_keeps_each_stage_with_its_time() -> None:
    stages, out, clock = shown_stages(terminal=True)
    stages("training: step 1 of 2, loss 2.1", 0.5)
    clock.now_s = 75.0
    stages("training: step 2 of 2, loss 1.1", 1.0)
    stages("test: answers of base", 0.0)
    stages.end()
    kept = [line.strip() for line in out.getvalue().splitlines() if "✓" in line]
    assert [" ".join(line.split()) for line in kept] == [
        "✓ training 1 min 15 s",
        "✓ test: answers of base 0 s",
    ]


def test_durations_are_read_at_a_glance() -> None:
    assert [duration(s) for s in (0.4, 59.4, 75, 3600, 9000)] == [
        "0 s",
        "59 s",
        "1 min 15 s",
        "1 h 0 min",
        "2 h 30 min",
    ]
