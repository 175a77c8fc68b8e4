"""The stages of a run, each of which finds what it made before in the run's folder, or makes it."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_registry.artifacts import CONFIG_FILE, WEIGHTS_FILE
from adapters_registry.errors import RegistryError
from adapters_registry.manifest import check_adapter
from training import run_folder as files
from training.bench import Bench, Candidate, OpenBench
from training.data.rows import Kind
from training.errors import TrainingError
from training.evaluation.results import Agreement, EvaluationResult, Example
from training.inputs import Inputs
from training.lineage import environment, registry_metadata
from training.report.run_report import CurvePoint, DataSummary, TrainingSummary
from training.run_folder import RunFolder

if TYPE_CHECKING:  # numpy, and more behind it: only a run pays for it
    from training.data.prepare import Prepared
    from training.fitting.job import FitJob, Fitted

_AGREEMENT_PROMPTS = 8


def prepare_data(inputs: Inputs) -> "Prepared":
    """The rows in their parts; the same each time. Raises TrainingError for faults not allowed."""
    from training.data.lengths import TokenCounter
    from training.data.prepare import prepare
    from training.encoding import load_tokenizer

    schedule = inputs.recipe.schedule
    limit = schedule.max_tokens
    return prepare(
        inputs.recipe.data,
        Path(),  # a loaded recipe's paths are absolute
        TokenCounter(load_tokenizer(inputs.base), schedule.learn),
        inputs.spec.max_model_len if limit == "model" else limit,
        inputs.progress,
    )


def keep_data(run: RunFolder, prepared: "Prepared") -> DataSummary:
    """Puts the rows as they are used, and what is known of them, into the run's folder."""
    from training.data.split_folder import write_rows

    parts = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
    summary = DataSummary(
        version=prepared.version,
        rows={name: len(rows) for name, rows in parts.items()},
        replayed=prepared.replayed,
        report=prepared.report,
    )
    if not run.has(files.DATA_SUMMARY):
        with run.making(files.DATA) as folder:
            for name, rows in parts.items():
                write_rows(folder / f"{name}.jsonl", rows)
        run.write_json(files.DATA_SUMMARY, summary)
    return summary


def has_adapter(run: RunFolder) -> bool:
    """Whether the training is done."""
    return run.has(files.FITTED) and run.has(files.ADAPTER)


def make_adapter(
    run: RunFolder, inputs: Inputs, prepared: "Prepared", micro_batch_size: int
) -> TrainingSummary:
    """Trains the adapter and puts it into the run's folder, checked as a registry will.

    micro_batch_size: rows at once that fit into memory now; a run that goes on keeps its own.
    """
    summary = run.read(files.FITTED, TrainingSummary)
    if summary is not None and has_adapter(run):
        run.remove(files.FIT)  # where a kill came just before
        return summary
    job = _job(run, inputs, prepared, micro_batch_size)
    fitted = _fit(job, inputs, prepared)
    if inputs.servable:
        _check_servable(fitted.adapter_dir, inputs)
    summary = _summary(fitted, prepared.kind)
    found = {"micro_batch_size": job.schedule.micro_batch_size, **fitted.environment}
    run.write_json(files.ENVIRONMENT, environment() | found)
    run.write_json(files.FITTED, summary)
    lines = (one.model_dump(mode="json") for one in fitted.history)
    run.write_lines(files.METRICS, lines)
    _keep_adapter(run, inputs, prepared, fitted.adapter_dir)
    if (events := run / files.FIT / files.TENSORBOARD).exists():
        events.replace(run / files.TENSORBOARD)
    run.remove(files.FIT)
    return summary


def _job(run: RunFolder, inputs: Inputs, prepared: "Prepared", micro_batch_size: int) -> "FitJob":
    from training.fitting.job import JOB, FitJob, read_job

    recipe, folder = inputs.recipe, (run / files.FIT).absolute()
    if (folder / JOB).exists():
        # What is free differs from day to day, and a few digits with it.
        micro_batch_size = read_job(folder).schedule.micro_batch_size or micro_batch_size
    return FitJob(
        base=inputs.base,
        base_name=inputs.spec.name,
        method=recipe.method,
        adapter=recipe.adapter,
        schedule=recipe.schedule.model_copy(update={"micro_batch_size": micro_batch_size}),
        kind=prepared.kind,
        seed=recipe.schedule.seed,
        folder=folder,
    )


def _fit(job: "FitJob", inputs: Inputs, prepared: "Prepared") -> "Fitted":
    from training.fitting.run import fit

    return fit(
        job,
        prepared.train,
        prepared.validation,
        num_processes=inputs.num_processes,
        progress=inputs.progress,
    )


def _check_servable(adapter: Path, inputs: Inputs) -> None:
    try:
        check_adapter(adapter, inputs.spec, inputs.recipe.adapter.rank)
    except RegistryError as error:
        raise TrainingError(f"the adapter would be refused: {error.message}") from error


def _keep_adapter(run: RunFolder, inputs: Inputs, prepared: "Prepared", made: Path) -> None:
    """The adapter's two files as they are, with where they come from beside them."""
    metadata = registry_metadata(
        inputs.recipe,
        inputs.spec,
        dataset=prepared.version,
        system_prompt=prepared.system_prompt,
        environment=json.loads((run / files.ENVIRONMENT).read_bytes()),
        run=run.mark.id,
    )
    with run.making(files.ADAPTER) as folder:
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            shutil.copyfile(made / name, folder / name)
        text = json.dumps(metadata, indent=2, ensure_ascii=False)
        (folder / files.METADATA).write_text(text + "\n", encoding="utf-8")


def judge(
    run: RunFolder, inputs: Inputs, prepared: "Prepared", open_bench: OpenBench
) -> EvaluationResult:
    """Base, candidate and live version on the held-out rows; whether served and trained agree."""
    found = run.read(files.EVALUATION, EvaluationResult)
    if found is not None:
        return found.model_copy(update={"examples": _read_answers(run)})
    metadata = read_metadata(run)
    candidate = Candidate(
        base=inputs.base,
        base_name=inputs.spec.name,
        adapter=run / files.ADAPTER,
        rank=inputs.recipe.adapter.rank,
        run=run.mark.id,
        metadata=metadata,
        progress=inputs.progress,
    )
    with open_bench(candidate) as bench:
        found = _evaluate(inputs, prepared, bench)
        agreement = _agreement(run / files.ADAPTER, inputs, prepared, bench)
        found = found.model_copy(update={"agreement": agreement})
    run.write_lines(files.ANSWERS, (one.model_dump(mode="json") for one in found.examples))
    run.write_json(files.EVALUATION, found.model_copy(update={"examples": ()}))
    return found


def read_metadata(run: RunFolder) -> dict[str, Any]:
    """What a registry is told of the adapter beside its verdict."""
    found: dict[str, Any] = json.loads((run / files.ADAPTER / files.METADATA).read_bytes())
    return found


def _read_answers(run: RunFolder) -> tuple[Example, ...]:
    lines = (run / files.ANSWERS).read_text(encoding="utf-8").split("\n")
    return tuple(Example.model_validate_json(line) for line in lines if line)


def _evaluate(inputs: Inputs, prepared: "Prepared", bench: Bench) -> EvaluationResult:
    from training.evaluation.evaluate import Suites, evaluate
    from training.evaluation.judge import make_judge

    part = inputs.recipe.evaluation
    suites = Suites(
        test=prepared.test,
        regression=inputs.regression,
        general=part.general,
        perplexity="perplexity" in part.scorers,
        max_items=part.max_items,
        max_tokens=part.max_tokens,
    )
    return evaluate(
        bench.engine,
        bench.subjects,
        suites,
        inputs.scorers,
        described=bench.described,
        progress=inputs.progress,
        judge=make_judge(part),
    )


def _agreement(
    adapter: Path, inputs: Inputs, prepared: "Prepared", bench: Bench
) -> Agreement | None:
    """None where the engine does not tell its tokens, as behind an endpoint."""
    from training.evaluation.agreement import compare
    from training.evaluation.items import sample
    from training.evaluation.offline import OfflineEngine

    if not isinstance(bench.engine, OfflineEngine):
        return None
    prompts = [row.prompt for row in sample(prepared.test, _AGREEMENT_PROMPTS)]
    return compare(inputs.base, adapter, bench.engine, prompts, progress=inputs.progress)


def _summary(fitted: "Fitted", kind: Kind) -> TrainingSummary:
    curve = [
        CurvePoint(
            step=one.step,
            loss=one.loss,
            validation_loss=one.validation_loss,
            learning_rate=one.learning_rate,
        )
        for one in fitted.history
    ]
    return TrainingSummary(
        steps=fitted.steps,
        tokens=fitted.tokens,
        tokens_per_s=fitted.tokens_per_s,
        seconds=fitted.history[-1].elapsed_s if fitted.history else 0.0,
        best_step=fitted.best_step,
        kept=fitted.kept,
        stopped_early=fitted.stopped_early,
        overfit=fitted.overfit,
        loss_unit="nats a token" if kind == "chat" else "DPO, a pair",
        curve=tuple(curve),
    )
