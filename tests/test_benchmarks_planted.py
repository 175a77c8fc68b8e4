"""What planted.py plants, and how it judges what it sees."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.planting.cases import cases
from benchmarks.planting.good import good_runs
from benchmarks.planting.report import (
    Outcome,
    Results,
    claims,
    fault_outcome,
    harmless_outcome,
    markdown,
)
from benchmarks.planting.trial import Seen, recipe_of
from training.data.check import check
from training.data.readers import read_rows
from training.recipe.recipe import Recipe, RowTemplate

CASES = {case.name: case for case in cases()}


def _seen(*alarms: str, verdict: str | None = None, gates: tuple[str, ...] = ()) -> Seen:
    metrics = {} if verdict is None else {"exact_match": 0.5}
    return Seen(alarms, verdict, gates, verdict is not None, metrics, 1.0)


def _results(outcomes: Sequence[Outcome], asked: int = 2) -> Results:
    machine = {"processor": "a processor", "cores": "2"}
    return Results("2026-01-01 00:00 UTC", machine, {"torch": "1"}, asked, [*outcomes])


@pytest.mark.parametrize("name", CASES)
def test_faults_of_the_rows_are_in_the_fault_and_not_in_its_twin(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    codes = {
        "shuffled labels": "unrelated_answers",
        "test rows in the training rows": "leakage",
        "contradictory pairs": "contradictions",
        "3 epochs on 20 examples": "few_rows",
    }
    found: list[list[str]] = []
    for trial in filter(None, (case.fault, case.twin)):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        Recipe.model_validate(recipe_of(trial, tmp_path / "base", folder))
        files = {name: read_rows(folder / f"{name}.jsonl") for name in ("train", "test")}
        loud = [one.code for one in check(files).report.findings if one.severity != "advice"]
        found.append(loud)
    allowed = ["few_rows"] if "examples" in case.name else []
    assert found == [[codes[case.name]] if case.name in codes else allowed, []][: len(found)]


@pytest.mark.parametrize("name", good_runs())
def test_good_rows_are_silent(name: str, tmp_path: Path) -> None:
    trial = good_runs()[name]
    recipe = Recipe.model_validate(recipe_of(trial, tmp_path / "base", tmp_path))
    suffix = trial.layout if trial.layout == "csv" else "jsonl"
    template: RowTemplate | None = recipe.data.template
    files = {part: read_rows(tmp_path / f"{part}.{suffix}", template) for part in ("train", "test")}
    report = check(files).report
    assert [one.message for one in report.findings if one.severity != "advice"] == []
    assert not any(file.bad for file in report.files)


def test_a_fault_is_caught_where_the_run_does_not_pass_and_says_so_in_time() -> None:
    case = CASES["contradictory pairs"]
    told = "error: data: 30 of 335 rows contradict another: they ask the same"
    caught = fault_outcome(case, _seen("warning: another", told))
    assert (caught.held, caught.said) == (True, (told, "warning: another"))
    assert not fault_outcome(case, _seen("error: memory")).held
    assert not fault_outcome(case, _seen(told, verdict="passed")).held
    assert not fault_outcome(case, _seen(told, verdict="rejected")).held  # too late


def test_a_fault_of_a_run_is_caught_by_alarm_and_verdict() -> None:
    case = CASES["shuffled labels"]
    warned = "warning: data: the answers look shuffled: they have no more"
    gates = ("pass forgetting <= 0.1: 0", "fail exact_match >= 0.8: 0.3")
    caught = fault_outcome(case, _seen(warned, verdict="rejected", gates=gates))
    assert (caught.held, caught.said) == (True, (warned, "Rejected", gates[1]))
    assert not fault_outcome(case, _seen(verdict="rejected", gates=gates)).held
    assert not fault_outcome(case, _seen(warned, verdict="passed")).held


def test_a_harmless_run_passes_only_without_an_alarm() -> None:
    assert harmless_outcome("a", "a twin", _seen(verdict="passed")).held
    warned = harmless_outcome("a", None, _seen("warning: overfit: ...", verdict="passed"))
    assert (warned.held, warned.said) == (False, ("warning: overfit: ...",))
    assert not harmless_outcome("a", None, _seen(verdict="rejected")).held


def test_the_page_tells_each_run_and_whether_all_went_as_they_should() -> None:
    missed = fault_outcome(CASES["every label masked"], _seen("error: no"))
    good = harmless_outcome("four classes", None, _seen("warning: a | b", verdict="passed"))
    page = markdown(_results([missed, good], asked=3))
    assert "A part: 2 of 3 runs." in page
    assert "- **not held**: 0 of 1 faults were caught" in page
    assert "| every label masked | **no** | before the first step | `error: no` |" in page
    assert "| four classes | **no** | exact_match 0.5 | `warning: a ¦ b` |" in page
    twin = harmless_outcome("b", "a twin", _seen(verdict="passed"))
    assert claims(_results([twin])) == [("1 of 1 harmless twins passed without an alarm", True)]
