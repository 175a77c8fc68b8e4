"""One training run from recipe to verdict, and what a user would see of it."""

import csv
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adapters_registry.errors import ModelError
from benchmarks.planting.cases import Trial
from benchmarks.planting.engine import SharedEngine
from benchmarks.planting.rows import Pair
from training.errors import Interrupted, TrainingError
from training.pipeline import RunOptions, RunResult, run
from training.recipe.loading import load_recipe

GATES = ("improves: exact_match by 0.2", "exact_match >= 0.8", "forgetting <= 0.1")


@dataclass(frozen=True)
class Seen:
    """What `loraplex train` says of a run.

    alarms: its lines of `warning:` and `error:`. verdict: None where it came to none. gates: a line
    for each. trained: whether a step was made. metrics: of the candidate.
    """

    alarms: tuple[str, ...]
    verdict: str | None
    gates: tuple[str, ...]
    trained: bool
    metrics: dict[str, float]
    seconds: float

    @property
    def refused_gates(self) -> list[str]:
        """The lines of gates that did not pass."""
        return [line for line in self.gates if not line.startswith("pass ")]

    def says(self, pattern: str) -> str | None:
        """The line in which the regular expression is found."""
        lines = (*self.alarms, *([self.verdict.capitalize()] if self.verdict else []))
        return next((line for line in lines if re.search(pattern, line)), None)


def run_trial(trial: Trial, base: Path, folder: Path, cache: Path, engine: SharedEngine) -> Seen:
    """Writes rows and recipe into `folder` and runs them there. Ctrl-C goes through."""
    folder.mkdir()
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of(trial, base, folder)))
    options = RunOptions("recipe", "loraplex train recipe.yaml", cache)
    alarms: list[str] = []
    result: RunResult | None = None
    started = time.monotonic()
    try:
        result = run(
            load_recipe(recipe),
            folder / "recipe.run",
            options,
            open_bench=engine.open_bench,
            warn=lambda text: alarms.append(f"warning: {text}"),
        )
    except Interrupted:
        raise KeyboardInterrupt from None
    except (TrainingError, ModelError) as error:
        alarms.append(f"error: {error.message}")
    seconds = round(time.monotonic() - started, 1)
    return _seen(folder / "recipe.run", result, alarms, seconds)


def _seen(folder: Path, result: RunResult | None, alarms: list[str], seconds: float) -> Seen:
    report = None if result is None else result.report
    if report is not None and report.training.overfit is not None:
        alarms.append(f"warning: {report.training.overfit}")
    return Seen(
        alarms=tuple(alarms),
        verdict=None if report is None else report.verdict,
        gates=tuple(f"{one.outcome} {one.gate}: {one.reason}" for one in report.gates)
        if report
        else (),
        trained=any((folder / part).exists() for part in ("metrics.jsonl", "fit/metrics.jsonl")),
        metrics={} if report is None else _metrics(report.model_dump()),
        seconds=seconds,
    )


def recipe_of(trial: Trial, base: Path, folder: Path) -> dict[str, Any]:
    """The recipe, its rows written beside it."""
    suffix = "csv" if trial.layout == "csv" else "jsonl"
    parts = {"train": trial.train, "validation": trial.validation, "test": trial.test}
    recipe: dict[str, Any] = {
        "base": str(base),
        "data": {name: f"{name}.{suffix}" for name in parts} | {"replay": 0.1},
        "gates": [*GATES],
    }
    for name, pairs in parts.items():
        write_rows(folder / f"{name}.{suffix}", trial, pairs)
    if trial.layout == "csv":
        recipe["data"]["template"] = {"prompt": "{question}", "answer": "{kind}"}
    for section, fields in trial.changes.items():
        if section:
            recipe[section] = recipe.get(section, {}) | fields
        else:
            recipe |= fields
    return recipe


def write_rows(file: Path, trial: Trial, pairs: Sequence[Pair]) -> None:
    """The pairs in the trial's layout."""
    if trial.layout == "csv":
        with file.open("w", newline="") as opened:
            csv.writer(opened).writerows([("question", "kind"), *pairs])
        return
    rows = (_row(trial, pairs, i) for i in range(len(pairs)))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _row(trial: Trial, pairs: Sequence[Pair], i: int) -> dict[str, Any]:
    question, answer = pairs[i]
    if trial.layout == "prompt":
        return {"prompt": question, "completion": answer}
    turns = [pairs[i - 1], pairs[i]] if trial.layout == "turns" else [pairs[i]]
    messages = [] if trial.system is None else [("system", trial.system)]
    for asked, said in turns:
        messages += [("user", asked), ("assistant", said)]
    return {"messages": [{"role": role, "content": content} for role, content in messages]}


def _metrics(report: dict[str, Any]) -> dict[str, float]:
    evaluation = report.get("evaluation") or {}
    return {
        one["name"]: round(value, 3)
        for one in evaluation.get("metrics", [])
        if (value := one["of"]["candidate"]["value"]) is not None
    }
