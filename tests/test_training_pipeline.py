"""From a recipe to a judged adapter: what a run keeps, what it decides, how it goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from adapters_registry.base_model import load_spec
from adapters_registry.types import Lineage
from tests.described import described
from tests.training_runs import (
    JUDGED,
    FinishedRun,
    make_rows,
    right,
    train,
    write_recipe,
    write_rows,
    wrong,
)
from training.bench import Bench, Candidate
from training.errors import RecipeError, TrainingError
from training.evaluation.engines import Subject
from training.evaluation.offline import OfflineEngine
from training.inputs import read_inputs
from training.lineage import registry_metadata
from training.pipeline import RunOptions, check_run
from training.recipe.loading import load_recipe
from training.recipe.machine_memory import MachineMemory
from training.report.run_report import RunReport

DEADLINE_S = 300.0
WEIGHTS = "adapter_model.safetensors"
PARTS = ("train", "validation", "test")


def never(candidate: Candidate) -> AbstractContextManager[Bench]:
    raise AssertionError("nothing is to be judged")


def test_a_run_leaves_what_it_was_made_from_and_what_came_of_it(finished_run: FinishedRun) -> None:
    folder = finished_run.result.folder
    made = {path.name for path in folder.iterdir()}
    assert sorted(made - {"tensorboard"}) == [  # where that is installed
        ".lock",
        "adapter",
        "answers.jsonl",
        "data",
        "data.json",
        "environment.json",
        "evaluation.json",
        "fitted.json",
        "metrics.jsonl",
        "recipe.yaml",
        "report.html",
        "report.json",
        "run.json",
    ]
    assert sorted(path.name for path in (folder / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "metadata.json",
    ]
    kept = [len((folder / "data" / f"{part}.jsonl").read_text().splitlines()) for part in PARTS]
    assert kept == [finished_run.result.report.data.rows[part] for part in PARTS]
    assert sum(kept) == len(make_rows())
    steps = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(steps) == finished_run.result.report.training.steps
    answers = (folder / "answers.jsonl").read_text().splitlines()
    assert len(answers) == finished_run.result.report.data.rows["test"]


def test_the_verdict_is_that_of_the_gates_with_their_reasons(finished_run: FinishedRun) -> None:
    report = finished_run.result.report
    assert finished_run.result.verdict == "passed"
    assert [gate.outcome for gate in report.gates] == ["pass", "pass"]
    assert "exact_match" in report.gates[0].reason
    assert report.evaluation is not None
    assert report.evaluation.subjects["base"] == "the base of a test"
    assert (
        RunReport.model_validate_json((finished_run.result.folder / "report.json").read_bytes())
        == report
    )
    assert ">Passed</h1>" in finished_run.result.page.read_text()


def test_a_registry_is_told_where_it_comes_from(finished_run: FinishedRun, tiny_base: Path) -> None:
    said = json.loads((finished_run.result.adapter_dir / "metadata.json").read_bytes())
    lineage = Lineage.model_validate(said["lineage"])
    spec = load_spec(tiny_base, finished_run.cache_dir)
    assert lineage.base.name == spec.name
    assert lineage.base.config_sha256 == spec.config_sha256
    assert lineage.tokenizer_sha256 == spec.tokenizer_sha256
    assert lineage.chat_template_sha256 == spec.chat_template_sha256
    assert lineage.dataset == finished_run.result.report.data.version
    assert lineage.parent is None
    assert lineage.recipe is not None
    assert lineage.recipe["gates"] == [gate.gate for gate in finished_run.result.report.gates]
    assert lineage.recipe["run"] == finished_run.result.report.run
    assert "packages" in dict(lineage.recipe["environment"])  # type: ignore[arg-type]
    # Where files lie on this machine is told to nobody.
    assert str(finished_run.recipe.parent) not in json.dumps(said)
    assert str(tiny_base.parent) not in json.dumps(said)


def test_a_system_prompt_that_all_rows_share_goes_into_the_serving_profile(
    finished_run: FinishedRun, tiny_base: Path
) -> None:
    spec = load_spec(tiny_base, finished_run.cache_dir)
    recipe = load_recipe(finished_run.recipe)

    def profile(system_prompt: str | None) -> object:
        said = registry_metadata(
            recipe, spec, dataset="ab", system_prompt=system_prompt, environment={}, run="1"
        )
        return said.get("serving_profile")

    assert profile("Answer in JSON.") == {"system_prompt": "Answer in JSON."}
    assert profile(None) is None
    # A serving profile takes no longer one.
    assert profile("x" * 32_769) is None


def test_an_adapter_learned_on_four_bits_says_so(
    finished_run: FinishedRun, tiny_base: Path
) -> None:
    spec = load_spec(tiny_base, finished_run.cache_dir)
    recipe = load_recipe(finished_run.recipe, ["method=qlora"])
    said = registry_metadata(
        recipe, spec, dataset="ab", system_prompt=None, environment={}, run="1"
    )
    assert said["lineage"]["base"]["quantization"] == "bitsandbytes nf4"


def test_a_finished_run_is_read_again(finished_run: FinishedRun) -> None:
    again = train(finished_run.recipe, finished_run.result.folder, finished_run.cache_dir, never)
    assert again.report == finished_run.result.report


def test_what_was_made_is_judged_without_training_anew(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    result = finished_run.judged_again(tmp_path / "copy", candidate=wrong, live=right)
    assert result.verdict == "rejected"
    assert [gate.outcome for gate in result.report.gates] == ["fail", "fail"]
    assert (result.adapter_dir / WEIGHTS).read_bytes() == (
        finished_run.result.adapter_dir / WEIGHTS
    ).read_bytes()
    assert result.report.evaluation is not None
    assert set(result.report.evaluation.metrics[0].against) == {"base", "live"}


def test_what_was_made_is_judged_where_no_memory_is_left_to_train(
    finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = MachineMemory(1 << 40, 0)
    monkeypatch.setattr("training.recipe.preflight.machine_memory", lambda _: full)
    assert finished_run.judged_again(tmp_path / "run").verdict == "passed"
    with pytest.raises(TrainingError, match="memory: one row at once takes"):
        train(finished_run.recipe, tmp_path / "another.run", finished_run.cache_dir)


def test_warnings_of_the_data_name_file_and_lines(tmp_path: Path, tiny_base: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_base)
    write_rows(tmp_path / "rows.jsonl", [*make_rows(), {**make_rows(1)[0], "completion": "no"}])
    options = RunOptions("run", "loraplex train run.yaml", described(tmp_path / "cache", tiny_base))
    (data, *_) = check_run(load_recipe(recipe), options).warnings
    assert data.startswith("data: 2 of 97 rows contradict another")
    assert data.endswith("(train, lines 1, 97)")


def test_a_loss_that_so_few_rows_cannot_show_is_inconclusive(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    one_less = finished_run.but_one()
    result = finished_run.judged_again(tmp_path / "copy", candidate=one_less, live=right)
    assert result.verdict == "inconclusive"
    assert [gate.outcome for gate in result.report.gates] == ["pass", "inconclusive"]


def test_an_adapter_that_no_engine_serves_is_inconclusive(
    finished_run: FinishedRun, tmp_path: Path, tiny_base: Path
) -> None:
    recipe = write_recipe(tmp_path, tiny_base, method="dora")
    folder = finished_run.copied(tmp_path / "copy", *JUDGED)
    # The adapter of the other run stands for one that was trained with DoRA.
    inputs = read_inputs(
        load_recipe(recipe), finished_run.cache_dir, num_processes=1, progress=lambda *_: None
    )
    mark = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**mark, "digest": inputs.digest()}))
    result = train(recipe, folder, finished_run.cache_dir, never)
    assert result.verdict == "inconclusive"
    assert "cannot serve a DoRA adapter" in result.report.gates[0].reason
    assert "could not be judged" in result.page.read_text()


@pytest.mark.vllm
def test_a_run_is_judged_on_the_serving_engine(
    finished_run: FinishedRun, tmp_path: Path, offline_engine: OfflineEngine
) -> None:
    @contextmanager
    def bench(candidate: Candidate) -> Iterator[Bench]:
        subjects = [Subject("base"), Subject("candidate", adapter=candidate.adapter)]
        yield Bench(offline_engine, subjects, {"base": "tiny", "candidate": "this"})

    folder = finished_run.copied(tmp_path / "copy", *JUDGED)
    result = train(finished_run.recipe, folder, finished_run.cache_dir, bench)
    assert result.verdict == "rejected"
    assert result.report.evaluation is not None
    agreement = result.report.evaluation.agreement
    assert agreement is not None
    assert agreement.same_tokens
    assert agreement.prompts == 8
    assert agreement.mean_difference < 0.05
    assert "Served as trained" in result.page.read_text()


def test_a_run_that_ended_before_its_report_keeps_its_evaluation(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    folder = finished_run.copied(tmp_path / "copy", "report.json", "report.html")
    result = train(finished_run.recipe, folder, finished_run.cache_dir, never)
    assert result.report.evaluation == finished_run.result.report.evaluation
    assert result.page.read_text().count("<details") == finished_run.result.page.read_text().count(
        "<details"
    )


@pytest.mark.parametrize(
    "change",
    [
        "schedule.seed=1",
        "gates=['exact_match >= 0.9']",
        "adapter.rank=8",
    ],
)
def test_another_recipe_is_another_run(
    finished_run: FinishedRun, tmp_path: Path, change: str
) -> None:
    folder = finished_run.copied(tmp_path / "copy")
    with pytest.raises(TrainingError, match="holds another run"):
        train(finished_run.recipe, folder, finished_run.cache_dir, never, [change])


def test_other_rows_are_another_run_and_moved_files_are_not(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    shutil.copyfile(finished_run.recipe, tmp_path / "moved.yaml")
    write_rows(tmp_path / "rows.jsonl", make_rows())
    folder = finished_run.copied(tmp_path / "copy")
    moved = train(tmp_path / "moved.yaml", folder, finished_run.cache_dir, never)
    assert moved.report == finished_run.result.report
    write_rows(tmp_path / "rows.jsonl", make_rows(95))
    with pytest.raises(TrainingError, match="holds another run"):
        train(tmp_path / "moved.yaml", folder, finished_run.cache_dir, never)


def test_a_gate_that_nothing_measures_ends_a_run_before_it_writes(
    finished_run: FinishedRun, tmp_path: Path, tiny_base: Path
) -> None:
    recipe = write_recipe(tmp_path, tiny_base, gates=["exact_mach >= 0.5"])
    with pytest.raises(RecipeError, match="did you mean exact_match"):
        train(recipe, tmp_path / "run.run", finished_run.cache_dir)
    assert not (tmp_path / "run.run").exists()


def test_bad_regression_rows_are_named_before_anything_is_trained(
    finished_run: FinishedRun, tmp_path: Path, tiny_base: Path
) -> None:
    write_rows(tmp_path / "old.jsonl", [*make_rows(2), {"prompt": "alone"}])
    recipe = write_recipe(tmp_path, tiny_base, evaluation={"regression": "old.jsonl"})
    with pytest.raises(TrainingError, match=r"evaluation\.regression: 1 rows.*\n.*line 3"):
        train(recipe, tmp_path / "run.run", finished_run.cache_dir)


def test_a_run_killed_at_three_stages_makes_the_same_adapter(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    folder = tmp_path / "killed.run"
    with started() as runs:
        kill_when(runs, finished_run, folder, (folder / "run.json").exists)
        assert not (folder / "fit").exists()
        kill_when(runs, finished_run, folder, lambda: any((folder / "fit").glob("checkpoints/*")))
        assert not (folder / "adapter").exists()
        kill_when(runs, finished_run, folder, (folder / "judging").exists)
        assert not (folder / "evaluation.json").exists()
    (folder / "judging").unlink()
    result = train(finished_run.recipe, folder, finished_run.cache_dir)
    assert result.verdict == "passed"
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        whole = (finished_run.result.adapter_dir / name).read_bytes()
        assert (result.adapter_dir / name).read_bytes() == whole
    assert result.report.evaluation == finished_run.result.report.evaluation


@contextmanager
def started() -> Iterator["subprocess.Popen[str]"]:
    """What starts runs in processes of their own (tests.training_forks)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.training_forks"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.communicate()


def kill_when(
    runs: "subprocess.Popen[str]",
    finished_run: FinishedRun,
    folder: Path,
    reached: Callable[[], bool],
) -> None:
    """Starts the run and ends it with SIGKILL at that point."""
    assert runs.stdin is not None
    assert runs.stdout is not None
    runs.stdin.write(f"{finished_run.recipe} {folder} {finished_run.cache_dir}\n")
    runs.stdin.flush()
    pid = int(runs.stdout.readline())
    end_s = time.monotonic() + DEADLINE_S
    while not reached():
        past = (folder / "judging").exists()
        assert reached() or not past, "the run went past the point"
        assert time.monotonic() < end_s
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    assert runs.stdout.readline() == "ended\n"
