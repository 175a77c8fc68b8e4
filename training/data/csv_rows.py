"""CSV: a template turns each record into a conversation; `{column}` is the column's text."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.data.formats import chat, is_unicode, message
from training.data.rows import Chat
from training.errors import DataError, TrainingError
from training.recipe.recipe import RowTemplate

if TYPE_CHECKING:
    from _csv import Reader

_PLACE = re.compile(r"\{([^{}]*)\}")
_COLUMN = re.compile(r"[\w .-]+")
_PROMPTS = ("prompt", "instruction", "input", "question", "query", "text", "utterance", "message")
_ANSWERS = (
    *("completion", "answer", "output", "response", "target"),
    *("category", "label", "intent", "class"),
)
_LABELS = ("category", "label", "intent", "class")


def parse_csv(lines: Iterable[str], template: RowTemplate) -> Iterator[Chat | DataError]:
    """Each record after the header, as a row or as what is wrong with it.

    lines: decoded with `surrogateescape`, so that bytes that are not UTF-8 can be named.
    Raises TrainingError where the template asks for a column that is not there.
    """
    reader, columns = _start(lines)
    _check_columns(template, columns)
    line = reader.line_num
    while True:
        number, record = line + 1, None
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield DataError(number, "", f"is not CSV ({error}); check its quotes")
        line = reader.line_num
        if record:
            yield _row_or_error(number, columns, record, template)


def csv_columns(path: Path) -> list[str]:
    """The names in the header. Raises TrainingError."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return _start(file)[1]
    except OSError as error:
        raise TrainingError(f"the data file cannot be read: {error.strerror}") from error


def guess_template(columns: Sequence[str]) -> RowTemplate | None:
    """The template of a CSV whose columns have the usual names, or that has only two."""
    prompt = next((name for name in _PROMPTS if name in columns), None)
    answer = next((name for name in _ANSWERS if name in columns and name != prompt), None)
    if len(columns) == 2 and (prompt is None) != (answer is None):
        known = prompt or answer
        other = next(name for name in columns if name != known)
        prompt, answer = prompt or other, answer or other
    if prompt is None or answer is None:
        return None
    label = f"{{{answer}}}" if answer in _LABELS else None
    return RowTemplate(prompt=f"{{{prompt}}}", answer=f"{{{answer}}}", system=None, label=label)


def _start(lines: Iterable[str]) -> tuple["Reader", list[str]]:
    rest = iter(lines)
    header = next(rest, "")
    commas, tabs, semicolons = (header.count(mark) for mark in ",\t;")
    most = max((commas, ","), (tabs, "\t"), (semicolons, ";"), key=lambda found: found[0])

    def again() -> Iterator[str]:
        yield header
        yield from rest

    reader = csv.reader(again(), delimiter=most[1], strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise TrainingError(f"the header is not CSV ({error}); check its quotes") from error
    if not any(columns):
        raise TrainingError("the file has no header; name the columns in its first line")
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise TrainingError(f"the header names a column twice: {', '.join(twice)}; rename one")
    return reader, columns


def _check_columns(template: RowTemplate, columns: Sequence[str]) -> None:
    for field, text in template.model_dump().items():
        for place in _PLACE.findall(text or ""):
            # Other braces are the text's own, of JSON say.
            if place not in columns and _COLUMN.fullmatch(place):
                raise TrainingError(
                    f"template.{field}: no column {place!r}; there are: {', '.join(columns)}"
                )
    for field in ("prompt", "answer"):
        if not any(place in columns for place in _PLACE.findall(getattr(template, field))):
            raise TrainingError(
                f"template.{field}: takes no column, so all rows would have the same; "
                f"write {{COLUMN}}, there are: {', '.join(columns)}"
            )


def _row_or_error(
    line: int, columns: Sequence[str], record: Sequence[str], template: RowTemplate
) -> Chat | DataError:
    try:
        return _row(line, columns, record, template)
    except DataError as error:
        return error


def _row(line: int, columns: Sequence[str], record: Sequence[str], template: RowTemplate) -> Chat:
    if len(record) != len(columns):
        raise DataError(
            line,
            "",
            f"has {len(record)} cells, the header {len(columns)}; quote texts with a delimiter",
        )
    if not all(map(is_unicode, record)):
        raise DataError(line, "", "is not UTF-8; save the file as UTF-8")
    cells = dict(zip(columns, record, strict=True))
    roles = (("system", "system"), ("prompt", "user"), ("answer", "assistant"))
    messages = [
        message(line, _blamed(text, cells) or field, role, _filled(text, cells))
        for field, role in roles
        if (text := getattr(template, field)) is not None
    ]
    label = None if template.label is None else _filled(template.label, cells).strip() or None
    return chat(line, messages, "messages", label)


def _filled(text: str, cells: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: cells.get(place[1], place[0]), text)


def _blamed(text: str, cells: Mapping[str, str]) -> str | None:
    """The column to name where the filled text is wrong: the first that is empty, or the first."""
    used = [place for place in _PLACE.findall(text) if place in cells]
    return next((name for name in used if not cells[name].strip()), used[0] if used else None)
