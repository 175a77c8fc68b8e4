"""A look at a data file, for the recipe that is written for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from training.data.classes import classes_of
from training.data.csv_rows import csv_columns, guess_template
from training.data.readers import file_format, read_rows
from training.data.rows import Chat, Kind, Row
from training.data.split_folder import read_dataset
from training.data.texts import answer_of, json_of
from training.errors import TrainingError
from training.recipe.recipe import RowTemplate

_ROWS = 5000
"""So many tell what the answers are."""
_SIBLINGS = {
    "data.validation": ("validation", "valid", "val", "dev"),
    "data.test": ("test",),
}


@dataclass(frozen=True, slots=True)
class DataLook:
    """What the file seems to be. files: by the recipe's field. longest_answer: in characters.

    class_key: of JSON answers, the key that tells their kind.
    """

    files: dict[str, Path]
    kind: Kind
    answers: Literal["json", "classes", "text"]
    class_key: str | None
    template: RowTemplate | None
    longest_answer: int


def look_at(data: Path) -> DataLook:
    """Reads the file, or the folder of `data split`. Raises TrainingError."""
    data = data.absolute()
    file = read_dataset(data)[1]["train"] if data.is_dir() else data
    template = _template(file)
    found = read_rows(file, template)
    if not found.rows:
        raise TrainingError(f"{data.name}: no row can be used; `data check` tells why")
    rows = found.rows[:_ROWS]
    answers, class_key = _answers(rows)
    return DataLook(
        files={"data.train": data} | ({} if data.is_dir() else _siblings(data)),
        kind=found.kind,
        answers=answers,
        class_key=class_key,
        template=template,
        longest_answer=max(len(answer_of(row)["content"]) for row in rows),
    )


def _template(file: Path) -> RowTemplate | None:
    if file_format(file) != "csv":
        return None
    columns = csv_columns(file)
    if template := guess_template(columns):
        return template
    if len(columns) == 1:
        raise TrainingError(f"{file.name}: has one column; it takes a prompt's and an answer's")
    return RowTemplate(
        prompt=f"{{{columns[0]}}}", answer=f"{{{columns[-1]}}}", system=None, label=None
    )


def _answers(rows: Sequence[Row]) -> tuple[Literal["json", "classes", "text"], str | None]:
    unlabelled = [replace(row, label=None) for row in rows]
    source = classes_of(unlabelled).source
    if all(isinstance(json_of(answer_of(row)["content"]), dict) for row in rows):
        key = source.removeprefix("answer.") if source and "." in source else None
        return "json", key
    return ("classes" if source == "answer" and isinstance(rows[0], Chat) else "text"), None


def _siblings(data: Path) -> dict[str, Path]:
    """Files beside `train` that are called as it is but for that word."""
    found: dict[str, Path] = {}
    for field, words in _SIBLINGS.items():
        for word in words:
            other = data.with_name(data.name.replace("train", word))
            if "train" in data.name and other.is_file():
                found.setdefault(field, other)
    return found
