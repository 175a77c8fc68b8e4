"""From a recipe to a judged adapter: stage after stage, each kept in the run's folder.

A run that was stopped goes on with the stage that it was in; one that is finished is read again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training import run_folder as files
from training import stages
from training.bench import OpenBench, offline_bench
from training.evaluation.engines import Progress
from training.evaluation.results import EvaluationResult
from training.inputs import Inputs, read_inputs
from training.lineage import plain_recipe
from training.recipe.recipe import Recipe
from training.report.page import recipe_text, render
from training.report.run_report import (
    DataSummary,
    GateOutcome,
    RunReport,
    TrainingSummary,
    Verdict,
)
from training.run_folder import RunFolder, open_run

if TYPE_CHECKING:  # numpy, and more behind it: only a run pays for it
    from training.data.prepare import Prepared
    from training.recipe.preflight import Preflight

_UNSERVED = (
    "vLLM cannot serve a DoRA adapter, so nothing was measured; merge it into the base, or train "
    "with method: lora"
)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a recipe is run, beside what it says.

    name: for people. command: makes the same run again. again: in place of the run that the folder
    holds.
    """

    name: str
    command: str
    cache_dir: Path
    num_processes: int = 1
    again: bool = False


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run. metadata: what a registry is told beside the verdict."""

    folder: Path
    report: RunReport
    metadata: dict[str, Any]

    @property
    def verdict(self) -> Verdict:
        """What the gates came to."""
        return self.report.verdict

    @property
    def adapter_dir(self) -> Path:
        """Holds adapter_config.json and adapter_model.safetensors."""
        return self.folder / files.ADAPTER

    @property
    def page(self) -> Path:
        """The report for people."""
        return self.folder / files.PAGE


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of a run before its first step."""

    prepared: "Prepared"
    preflight: "Preflight"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Of the data and of the run, for a person who may still stop it."""
        data = self.prepared.report.of("warning")
        return (*(f"data: {one.told()}" for one in data), *self.preflight.warnings)


def unseen(_stage: str, _fraction: float | None) -> None:
    """Progress that nobody looks at."""


def unheard(_warning: str) -> None:
    """Warnings that nobody looks at."""


def run(
    recipe: Recipe,
    folder: Path,
    options: RunOptions,
    *,
    open_bench: OpenBench = offline_bench,
    progress: Progress = unseen,
    warn: Callable[[str], None] = unheard,
) -> RunResult:
    """Makes the adapter, judges it and writes the report, all in `folder`.

    warn: told of each thing to look at before the first step. Raises TrainingError, ModelError;
    what was done until then stays, and the same call goes on from there.
    """
    inputs = _inputs(recipe, options, progress)
    with open_run(folder, inputs.digest(), again=options.again) as opened:
        report = opened.read(files.REPORT, RunReport)
        if report is None:
            checked = _check(inputs, trained=stages.has_adapter(opened))
            for text in checked.warnings:
                warn(text)
            report = _make(opened, inputs, checked, options, open_bench)
        return RunResult(folder, report, stages.read_metadata(opened))


def check_run(recipe: Recipe, options: RunOptions, progress: Progress = unseen) -> Checked:
    """All that is checked before the first step, and the estimate. Writes nothing."""
    return _check(_inputs(recipe, options, progress))


def _inputs(recipe: Recipe, options: RunOptions, progress: Progress) -> Inputs:
    return read_inputs(
        recipe, options.cache_dir, num_processes=options.num_processes, progress=progress
    )


def _check(inputs: Inputs, *, trained: bool = False) -> Checked:
    """trained: whether nothing is left to do but to judge the adapter."""
    from training.recipe.preflight import check

    prepared = stages.prepare_data(inputs)
    preflight = check(
        inputs.recipe,
        prepared,
        inputs.base,
        inputs.spec,
        num_processes=inputs.num_processes,
        trained=trained,
    )
    return Checked(prepared, preflight)


def _make(
    run: RunFolder, inputs: Inputs, checked: Checked, options: RunOptions, open_bench: OpenBench
) -> RunReport:
    run.write(files.RECIPE, recipe_text(plain_recipe(inputs.recipe)))
    data = stages.keep_data(run, checked.prepared)
    rows_at_once = checked.preflight.memory.micro_batch_size
    training = stages.make_adapter(run, inputs, checked.prepared, rows_at_once)
    found = None
    if inputs.servable:
        found = stages.judge(run, inputs, checked.prepared, open_bench)
    inputs.progress("writing the report", None)
    report = _report(run, inputs, options, (data, training, found), checked.preflight.warnings)
    _write_page(run, report, checked.prepared, found)
    # Last, because it says that all the others are there.
    run.write_json(files.REPORT, report)
    return report


def _report(
    run: RunFolder,
    inputs: Inputs,
    options: RunOptions,
    made: tuple[DataSummary, TrainingSummary, EvaluationResult | None],
    warnings: tuple[str, ...],
) -> RunReport:
    data, training, found = made
    verdict, gates = _decide(inputs, found)
    lineage = stages.read_metadata(run)["lineage"]
    recipe = lineage.pop("recipe")
    return RunReport(
        run=run.mark.id,
        name=options.name,
        verdict=verdict,
        gates=gates,
        warnings=warnings,
        started_at=run.mark.started_at,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=plain_recipe(inputs.recipe),
        command=options.command,
        data=data,
        training=training,
        evaluation=None if found is None else found.model_copy(update={"examples": ()}),
        lineage=lineage,
        environment=recipe["environment"],
    )


def _decide(
    inputs: Inputs, found: EvaluationResult | None
) -> tuple[Verdict, tuple[GateOutcome, ...]]:
    from training.gates import decide

    if found is None:
        undecided = [
            GateOutcome(gate=gate.text, outcome="inconclusive", reason=_UNSERVED)
            for gate in inputs.gates
        ]
        return "inconclusive", tuple(undecided)
    decision = decide(inputs.gates, found)
    return decision.verdict, tuple(
        GateOutcome(gate=one.gate, outcome=one.outcome, reason=one.reason)
        for one in decision.reasons
    )


def _write_page(
    run: RunFolder, report: RunReport, prepared: "Prepared", found: EvaluationResult | None
) -> None:
    from training.data.page import fragment

    examples = () if found is None else found.examples
    run.write(files.PAGE, render(report, examples, fragment(prepared.report)))
