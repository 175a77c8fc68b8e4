"""A data file as rows: JSONL or CSV, with every bad line named and none of them in the way."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Literal

from training.data.csv_rows import csv_columns, parse_csv
from training.data.formats import parse_row
from training.data.rows import Chat, DataFile, Kind, Row
from training.data.store import RowStore
from training.data.version import row_digest, version_of
from training.errors import DataError, TrainingError
from training.recipe.recipe import RowTemplate

FileFormat = Literal["jsonl", "csv"]

_NAMES: dict[str, FileFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
_MARK = b"\xef\xbb\xbf"


def read_rows(path: Path, template: RowTemplate | None = None) -> DataFile:
    """Every row of `path`. Bad ones are collected; blank lines are skipped.

    template: for CSV. The kind is that of the first good row; a row of the other kind is bad.
    Raises TrainingError where the file cannot be read, is of no known format or has no rows.
    """
    found = file_format(path)
    if found == "csv" and template is None:
        raise TrainingError(
            "template: a CSV needs one; its columns are: " + ", ".join(csv_columns(path))
        )
    digest = hashlib.sha256()
    with _opened(path) as file:
        lines = _lines(file, digest)
        rows = _from_csv(lines, template) if template and found == "csv" else _from_jsonl(lines)
        store, kind, bad, digests = _collect(rows)
    if not digests and not bad:
        raise TrainingError(f"{path.name}: the file has no rows; write one a line")
    return DataFile(path, kind, store, bad, digest.hexdigest(), version_of(digests))


def file_format(path: Path) -> FileFormat:
    """What the file holds, by its content and then its name. Raises TrainingError."""
    with _opened(path) as file:
        start = file.read(4096).removeprefix(_MARK)
    if b"\0" in start:
        raise TrainingError(f"{path.name}: is not text; save it as JSONL or CSV in UTF-8")
    text = start.lstrip()
    if text.startswith(b"{"):
        return "jsonl"
    if text.startswith(b"[") and text[1:].lstrip()[:1] in (b"{", b""):
        raise TrainingError(f"{path.name}: is one JSON list; write one object a line (JSONL)")
    named = _NAMES.get(path.suffix.lower())
    if named is None:
        raise TrainingError(
            f"{path.name}: neither JSONL nor CSV; write one JSON object a line, or name it .csv"
        )
    return named


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise TrainingError(
            f"the data file {path.name} cannot be read: {error.strerror}; check its path"
        ) from error


def _lines(file: Iterable[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for number, line in enumerate(file):
        digest.update(line)
        yield line if number else line.removeprefix(_MARK)


def _from_jsonl(lines: Iterable[bytes]) -> Iterator[Row | DataError]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield parse_row(number, _json(number, line))
            except DataError as error:
                yield error


def _json(number: int, line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(number, "", "is not UTF-8; save the file as UTF-8") from error
    # A number of thousands of digits is a ValueError as well.
    except (ValueError, RecursionError) as error:
        raise DataError(number, "", f"is not JSON ({error}); write one object a line") from error


def _from_csv(lines: Iterable[bytes], template: RowTemplate) -> Iterator[Row | DataError]:
    return parse_csv((line.decode("utf-8", "surrogateescape") for line in lines), template)


def _collect(
    rows: Iterable[Row | DataError],
) -> tuple[RowStore, Kind, list[DataError], list[bytes]]:
    store, kind = None, None
    bad: list[DataError] = []
    digests: list[bytes] = []
    for row in rows:
        if isinstance(row, DataError):
            bad.append(row)
            continue
        found: Kind = "chat" if isinstance(row, Chat) else "preference"
        if store is None or kind is None:
            store, kind = RowStore(found), found
        if found != kind:
            bad.append(
                DataError(row.line, "", f"is a {found}, rows before it a {kind}; use two files")
            )
            continue
        store.add(row)
        digests.append(row_digest(row))
    return store or RowStore("chat"), kind or "chat", bad, digests
