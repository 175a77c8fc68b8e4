"""`loraplex data`: look at training data, split it, and see rows as the model sees them."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loraplex.cache import cache_dir
from loraplex.connection import AsJson
from loraplex.errors import CommandError, UsageError
from loraplex.output import note, print_json, print_line

if TYPE_CHECKING:  # the training module is loaded only by the command that needs it
    from transformers import PreTrainedTokenizerBase

    from training.data.lengths import TokenCounter
    from training.data.rows import DataFile, Row
    from training.recipe.recipe import RowTemplate

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

_EMBEDDED = "embedded"
_HEAD_ROWS = 3
_PANEL = "CSV columns"

Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help="The user's message, as `{text}`.",
        rich_help_panel=_PANEL,
    ),
]
Answer = Annotated[
    str | None,
    typer.Option(
        "--answer", metavar="TEXT", help="The answer, as `{category}`.", rich_help_panel=_PANEL
    ),
]
System = Annotated[
    str | None,
    typer.Option("--system", metavar="TEXT", help="The system message.", rich_help_panel=_PANEL),
]
Label = Annotated[
    str | None,
    typer.Option(
        "--label", metavar="TEXT", help="The class, as `{category}`.", rich_help_panel=_PANEL
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="embedded|PATH|HUB_ID",
        help="Whose tokens and template. Default: embedded.",
    ),
]


@app.command()
def check(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="JSONL or CSV; a held-out file behind what is learned; or a split's folder.",
        ),
    ],
    prompt: Prompt = None,
    answer: Answer = None,
    system: System = None,
    label: Label = None,
    base: Base = None,
    no_tokens: Annotated[
        bool, typer.Option("--no-tokens", help="Do not count tokens: quicker.")
    ] = False,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", min=8, help="Of a row at most. Default: the base's limit."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at training data: bad lines, copies, contradictions, leaks, lengths, structure.

    Ends with 0 where it can be trained on (warnings are to be read), with 1 where it cannot.
    """
    from loraplex.data_view import show_report
    from loraplex.stages import stages

    if no_tokens and (base is not None or max_tokens is not None):
        raise UsageError("--no-tokens: without tokens --base and --max-tokens say nothing")
    with _errors(), stages() as progress:
        from training.data.check import check as check_files
        from training.data.page import page

        parts = _parts(files, row_template(prompt, answer, system, label))
        counter, limit = (None, None) if no_tokens else _counter(base)
        checked = check_files(
            parts,
            count=None if counter is None else counter.each,
            limit=max_tokens or limit,
            progress=progress,
        )
        report = checked.report
        if html is not None:
            _write(html, page(report, files[0].name))
    if as_json:
        print_json(report.model_dump())
    else:
        show_report(report)
        if html is not None:
            print_line(f"Wrote {html}.")
    if report.of("error"):
        raise typer.Exit(1)


@app.command()
def split(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL or CSV.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new or empty folder.")],
    validation: Annotated[
        float, typer.Option("--validation", min=0, max=0.9, help="The share that steers a run.")
    ] = 0.1,
    test: Annotated[
        float, typer.Option("--test", min=0, max=0.9, help="The share that judges it.")
    ] = 0.2,
    prompt: Prompt = None,
    answer: Answer = None,
    system: System = None,
    label: Label = None,
    as_json: AsJson = False,
) -> None:
    """Split rows into train, validation and test, the same way each time.

    Rows that ask the same stay together, classes keep their shares. Writes train.jsonl,
    validation.jsonl, test.jsonl and dataset.json.
    """
    from loraplex.data_view import show_split
    from loraplex.stages import stages

    if validation + test >= 1:
        raise UsageError("--validation and --test together must be less than 1")
    with _errors(), stages() as progress:
        from training.data.split_folder import write_split
        from training.data.splits import split_rows

        data = read_data(file, row_template(prompt, answer, system, label))
        refuse_bad(data)
        splits = split_rows(data.rows, validation=validation, test=test, progress=progress)
        dataset = write_split(
            out,
            splits,
            source=file,
            source_sha256=data.sha256,
            validation=validation,
            test=test,
        )
    if as_json:
        print_json(dataset.model_dump())
    else:
        show_split(out, dataset)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL or CSV.")],
    line: Annotated[
        int | None, typer.Option("--line", metavar="N", min=1, help="The row in this line.")
    ] = None,
    head: Annotated[
        int, typer.Option("--head", metavar="N", min=1, help="So many rows from the start.")
    ] = _HEAD_ROWS,
    prompt: Prompt = None,
    answer: Answer = None,
    system: System = None,
    label: Label = None,
    base: Base = None,
    as_json: AsJson = False,
) -> None:
    """Show rows as the model sees them: through its template, with what is learned marked."""
    from loraplex.data_view import show_row

    with _errors():
        from training.data.segments import segments

        rows = _chosen(read_data(file, row_template(prompt, answer, system, label)), line, head)
        tokenizer = _tokenizer(_base_folder(base or _EMBEDDED))
        seen = [segments(row, tokenizer) for row in rows]
    if as_json:
        print_json({"rows": [asdict(one) for one in seen]})
        return
    for one in seen:
        show_row(one)


def _chosen(data: "DataFile", line: int | None, head: int) -> "Sequence[Row]":
    if line is None:
        if not len(data.rows):
            raise CommandError(data.bad[0].message)
        return data.rows[:head]
    for error in data.bad:
        if error.line == line:
            raise CommandError(error.message)
    rows = [row for row in data.rows if row.line == line]
    if not rows:
        raise CommandError(f"--line {line}: no row begins there")
    return rows


@contextmanager
def _errors() -> Iterator[None]:
    from loraplex.train import errors_of_training

    with errors_of_training():
        yield


def row_template(
    prompt: str | None, answer: str | None, system: str | None, label: str | None
) -> "RowTemplate | None":
    """How a CSV becomes rows, where that is said."""
    from training.recipe.recipe import RowTemplate

    if prompt is None and answer is None:
        if system is not None or label is not None:
            raise UsageError("--system and --label go with --prompt and --answer, for CSV")
        return None
    if prompt is None or answer is None:
        raise UsageError("--prompt and --answer go together")
    return RowTemplate(prompt=prompt, answer=answer, system=system, label=label)


def _parts(files: Sequence[Path], template: "RowTemplate | None") -> "dict[str, DataFile]":
    """Name -> file; a folder of `data split` is its files."""
    from training.data.split_folder import read_dataset

    paths: list[Path] = []
    for file in files:
        paths += read_dataset(file)[1].values() if file.is_dir() else [file]
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise UsageError("a file is named twice")
    return {name: read_data(path, template) for name, path in zip(names, paths, strict=True)}


def read_data(path: Path, template: "RowTemplate | None") -> "DataFile":
    """The rows of a file; of a CSV by the template, or by columns of known names."""
    from training.data.csv_rows import csv_columns, guess_template
    from training.data.readers import file_format, read_rows

    if file_format(path) != "csv":
        return read_rows(path)
    if template is None:
        columns = csv_columns(path)
        template = guess_template(columns)
        if template is None:
            raise UsageError(
                f"{path.name}: which columns? Give --prompt and --answer, as --prompt "
                f"'{{{columns[0]}}}'; there are: {', '.join(columns)}"
            )
        note(
            f"{path.name}: reading {template.prompt} -> {template.answer} (else --prompt, --answer)"
        )
    return read_rows(path, template)


def refuse_bad(data: "DataFile") -> None:
    """Raises CommandError where a row cannot be used."""
    if data.bad:
        first = "\n  ".join(error.message for error in data.bad[:10])
        raise CommandError(f"{len(data.bad)} rows cannot be used; mend or remove them:\n  {first}")


def _counter(base: str | None) -> "tuple[TokenCounter | None, int | None]":
    """The counter of the base's tokens, and the base's limit. Without either if none is there."""
    from adapters_registry.embedded import embedded_folder
    from adapters_registry.sealed_folder import is_intact
    from training.data.lengths import TokenCounter

    if base is None and not is_intact(embedded_folder(cache_dir())):
        note("Tokens are not counted: name the model with --base")
        return None, None
    folder = _base_folder(base or _EMBEDDED)
    return TokenCounter(_tokenizer(folder)), _model_limit(folder)


def _base_folder(base: str) -> Path:
    from adapters_registry.models import resolve_model

    return resolve_model(base, cache_dir(), weights=False)


def _model_limit(folder: Path) -> int | None:
    config = json.loads((folder / "config.json").read_bytes())
    found = config.get("text_config", config).get("max_position_embeddings")
    return found if isinstance(found, int) else None


def _tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from training.encoding import load_tokenizer

    return load_tokenizer(folder)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from None
