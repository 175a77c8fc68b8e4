"""The folder that `data split` writes: three files of rows, and what they were made from."""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from training.data.rows import Chat, Row
from training.data.splits import Splits
from training.data.version import row_digest, version_of, version_of_parts
from training.errors import TrainingError

PARTS = ("train", "validation", "test")
DATASET_FILE = "dataset.json"

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class PartRecord(BaseModel):
    """A file of the folder. sha256: of its bytes."""

    model_config = _FROZEN

    rows: int
    sha256: str
    version: str


class Dataset(BaseModel):
    """dataset.json. version: of the data set with its split. source: the file it was made from."""

    model_config = _FROZEN

    version: str
    source: str
    source_sha256: str
    source_version: str
    validation: float
    test: float
    parts: dict[str, PartRecord]


def write_split(
    folder: Path,
    splits: Splits,
    *,
    source: Path,
    source_sha256: str,
    validation: float,
    test: float,
) -> Dataset:
    """Make `folder` with its files: all of them or none. Raises TrainingError if it is not empty.

    A part without rows gets no file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TrainingError(f"{folder} is not empty; name a new folder")
    parts = {name: rows for name in PARTS if (rows := getattr(splits, name))}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work:
            ready = Path(work) / "ready"
            ready.mkdir()
            records = {name: write_rows(ready / f"{name}.jsonl", parts[name]) for name in parts}
            dataset = Dataset(
                version=version_of_parts({name: one.version for name, one in records.items()}),
                source=source.name,
                source_sha256=source_sha256,
                source_version=_version([row for rows in parts.values() for row in rows]),
                validation=validation,
                test=test,
                parts=records,
            )
            (ready / DATASET_FILE).write_text(dataset.model_dump_json(indent=2) + "\n")
            ready.replace(folder)
    except OSError as error:
        raise TrainingError(f"cannot write {folder}: {error.strerror}") from error
    return dataset


def read_dataset(folder: Path) -> tuple[Dataset | None, Mapping[str, Path]]:
    """The record of a folder, where it has one, and the files of its parts.

    Raises TrainingError where a file is not the one that was written: what is held out must stay
    what it was.
    """
    files = {name: file for name in PARTS if (file := folder / f"{name}.jsonl").is_file()}
    if "train" not in files:
        raise TrainingError(f"{folder.name}: no train.jsonl in the folder; make it by `data split`")
    record = folder / DATASET_FILE
    if not record.is_file():
        return None, files
    try:
        dataset = Dataset.model_validate_json(record.read_bytes())
    except ValidationError as error:
        raise TrainingError(f"{folder.name}/{DATASET_FILE}: not one of `data split`") from error
    for name, part in dataset.parts.items():
        if name not in files or _sha256(files[name]) != part.sha256:
            raise TrainingError(
                f"{folder.name}/{name}.jsonl: is not the file that `data split` wrote; split anew,"
                f" or remove {DATASET_FILE}"
            )
    return dataset, files


def write_rows(file: Path, rows: Sequence[Row]) -> PartRecord:
    """`rows` as JSONL, in the shape that they were read from in the first place."""
    digest = hashlib.sha256()
    with file.open("wb") as opened:
        for row in rows:
            line = json.dumps(as_object(row), ensure_ascii=False).encode() + b"\n"
            digest.update(line)
            opened.write(line)
    return PartRecord(rows=len(rows), sha256=digest.hexdigest(), version=_version(rows))


def as_object(row: Row) -> dict[str, object]:
    """The row as one line of JSONL holds it."""
    made: dict[str, object]
    if isinstance(row, Chat):
        made = {"messages": [*row.prompt, row.answer]}
    else:
        made = {"prompt": [*row.prompt], "chosen": [row.chosen], "rejected": [row.rejected]}
    return made if row.label is None else made | {"label": row.label}


def _version(rows: Sequence[Row]) -> str:
    return version_of(row_digest(row) for row in rows)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
