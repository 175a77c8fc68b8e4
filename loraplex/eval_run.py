"""One evaluation as the command runs it: options checked, engine opened, files written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraplex.client.download import check_free
from loraplex.client.errors import UnusableFolder
from loraplex.data import read_data, refuse_bad
from loraplex.errors import CommandError, UsageError
from loraplex.stages import stages

if TYPE_CHECKING:  # the training module is loaded only by the command that needs it
    from training.data.rows import Row
    from training.evaluation.evaluate import Suites
    from training.evaluation.results import EvaluationResult
    from training.evaluation.scorers import Scorer
    from training.recipe.recipe import EvaluationPart, RowTemplate

# What a recipe calls a field is an option here.
_AS_OPTIONS = {
    "evaluation.scorers": "--scorer",
    "evaluation.schema": "--schema",
    "evaluation.pattern": "--pattern",
    "evaluation.judge.key_file": "--judge-key-file",
    "evaluation.judge": "--judge-url and --judge-model",
}


class Where(StrEnum):
    """Which engine is asked."""

    OFFLINE = "offline"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command was called with; each field is an option of that name."""

    base: str
    adapter: str | None
    live: str | None
    with_base: bool
    data: Path
    template: "RowTemplate | None"
    scorers: tuple[str, ...]
    regression: Path | None
    general: bool
    max_items: int | None
    max_tokens: int
    max_model_len: int | None
    schema: Path | None
    pattern: str | None
    out: Path | None
    where: Where
    judge_url: str | None
    judge_model: str | None
    judge_key_file: Path | None
    judge_items: int
    blind_sheet: Path | None
    blind_key: Path | None
    url: str | None
    key: str | None


def run(options: Options) -> "EvaluationResult":
    """Everything is checked before an engine starts. Raises CommandError."""
    from loraplex.eval_subjects import open_bench

    with _errors():
        from training.evaluation.evaluate import evaluate
        from training.evaluation.judge import make_judge
        from training.evaluation.scorers import make_scorers

        _check_free(options)
        part = _part(options)
        scorers: Sequence[Scorer] = make_scorers(part.scorers, part)
        judge = make_judge(part)
        suites = _suites(options, part)
        with stages() as progress, open_bench(options, progress) as bench:
            found = evaluate(
                bench.engine,
                bench.subjects,
                suites,
                scorers,
                described=bench.described,
                progress=progress,
                judge=judge,
            )
        _write(found, options)
    return found


@contextmanager
def _errors() -> Iterator[None]:
    """What the training module and the model loader raise, as the command's errors."""
    from adapters_registry.errors import ModelError, RegistryError
    from training.errors import RecipeError, TrainingError

    try:
        yield
    except RecipeError as error:
        raise UsageError(_as_options(error.message)) from error
    except (TrainingError, ModelError, RegistryError) as error:
        raise CommandError(_as_options(error.message)) from error


def _as_options(message: str) -> str:
    for field, option in _AS_OPTIONS.items():
        message = message.replace(f"{field}:", f"{option}:")
    return message


def _part(options: Options) -> "EvaluationPart":
    """The options as a recipe says them."""
    from training.recipe.recipe import EvaluationPart, JudgePart

    if (options.judge_url is None) != (options.judge_model is None):
        raise UsageError("--judge-url and --judge-model go together")
    scorers = options.scorers or EvaluationPart.model_fields["scorers"].default
    judge = None
    if options.judge_url is not None and options.judge_model is not None:
        judge = JudgePart(
            url=options.judge_url,
            model=options.judge_model,
            key_file=options.judge_key_file,
            items=options.judge_items,
        )
        scorers = (*scorers, "judge")
    return EvaluationPart(
        scorers=tuple(dict.fromkeys(scorers)),
        max_items=options.max_items,
        max_tokens=options.max_tokens,
        schema_file=options.schema,
        pattern=options.pattern,
        regression=options.regression,
        general=options.general,
        judge=judge,
    )


def _suites(options: Options, part: "EvaluationPart") -> "Suites":
    from training.evaluation.evaluate import Suites

    return Suites(
        test=_rows(options.data, options),
        regression=_rows(options.regression, options) if options.regression else (),
        general=options.general,
        perplexity="perplexity" in part.scorers,
        max_items=options.max_items,
        max_tokens=options.max_tokens,
    )


def _rows(file: Path, options: Options) -> "Sequence[Row]":
    if file.is_dir():
        from training.data.split_folder import read_dataset

        files = read_dataset(file)[1]
        if "test" not in files:
            raise UsageError(f"{file} holds no test.jsonl; name the file of held-out rows")
        file = files["test"]
    found = read_data(file, options.template)
    refuse_bad(found)
    return found.rows


def _check_free(options: Options) -> None:
    """Before minutes of work: nothing will be overwritten."""
    if options.out is not None:
        try:
            check_free(options.out)
        except UnusableFolder as error:
            raise UsageError(f"--out: {error.message}") from None
    for option, file in (("blind-sheet", options.blind_sheet), ("blind-key", options.blind_key)):
        if file is not None and file.exists():
            raise UsageError(f"--{option}: {file} is there already; name a new file")


def _write(found: "EvaluationResult", options: Options) -> None:
    try:
        if options.out is not None:
            _write_folder(found, options.out)
        if options.blind_sheet is not None and options.blind_key is not None:
            _write_blind(found, options.blind_sheet, options.blind_key)
    except OSError as error:
        raise CommandError(f"cannot write {error.filename}: {error.strerror}") from None


def _write_folder(found: "EvaluationResult", folder: Path) -> None:
    """result.json, and answers.jsonl with every item."""
    folder.mkdir(parents=True, exist_ok=True)
    answers = "".join(_line(one.model_dump(mode="json")) for one in found.examples)
    (folder / "answers.jsonl").write_text(answers, encoding="utf-8")
    summary = found.model_dump_json(indent=2, exclude={"examples"})
    (folder / "result.json").write_text(summary + "\n", encoding="utf-8")


def _write_blind(found: "EvaluationResult", sheet: Path, key: Path) -> None:
    from training.evaluation.blind import make_sheet

    other = "base" if "base" in found.subjects else "live"
    text, blind_key = make_sheet(found, other=other)
    # The mark at the start tells spreadsheets that it is UTF-8.
    sheet.write_text(text, encoding="utf-8-sig", newline="")
    key.write_text(blind_key.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False) + "\n"
