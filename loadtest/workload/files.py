"""Rows of CSV, JSONL and plain text files, with their lines, and one by one from their places.

A file is never held as a whole. CSV has a header; a line of a .txt file is a row with one column,
`text`.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from loadtest.workload.errors import RowError, WorkloadError

_JSON_LINES = {".jsonl", ".ndjson"}
_FORMATS = {".csv", ".txt"} | _JSON_LINES
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """line: from 1. offset: the byte where it begins."""

    line: int
    offset: int
    fields: dict[str, Any]


class RowFile:
    """A file of rows. Raises WorkloadError, which names the file and the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kind = path.suffix.lower()
        if self._kind not in _FORMATS:
            raise WorkloadError(
                f"{path}: the name must end in .jsonl, .csv or .txt, which says how it is read"
            )
        self._columns: list[str] = []

    def rows(self) -> Iterator[Row]:
        """All rows from the first; empty lines are passed over."""
        with self._open() as file:
            if self._kind == ".csv":
                yield from self._csv_rows(file)
            else:
                yield from self._line_rows(file)

    def at(self, line: int, offset: int) -> dict[str, Any]:
        """The fields of the row that `rows` found there; of CSV, only after `rows` began."""
        with self._open() as file:
            file.seek(offset)
            if self._kind == ".csv":
                record = next(csv.reader(_Lines(file, self.path, line - 1), strict=True))
                return dict(zip(self._columns, record, strict=True))
            return self._fields(line, file.readline())

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise WorkloadError(f"{self.path}: cannot be read ({error.strerror})") from error

    def _line_rows(self, file: BinaryIO) -> Iterator[Row]:
        offset = 0
        for line, raw in enumerate(file, 1):
            if raw.strip() and raw != _BOM:
                yield Row(line, offset, self._fields(line, raw))
            offset += len(raw)

    def _fields(self, line: int, raw: bytes) -> dict[str, Any]:
        text = _decoded(raw, self.path, line)
        if self._kind not in _JSON_LINES:
            return {"text": text.rstrip("\r\n")}
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise RowError(self.path, line, f"is not JSON ({error.msg})") from error
        if not isinstance(fields, dict):
            raise RowError(self.path, line, 'is not a JSON object, as {"prompt": "..."}')
        return fields

    def _csv_rows(self, file: BinaryIO) -> Iterator[Row]:
        lines = _Lines(file, self.path, 0)
        reader = csv.reader(lines, strict=True)
        self._columns = self._header(self._record(reader, lines))
        while True:
            offset, line = lines.consumed, lines.line + 1
            record = self._record(reader, lines)
            if record is None:
                return
            if not record:
                continue
            if len(record) != len(self._columns):
                fault = f"has {len(record)} fields, and the header has {len(self._columns)}"
                raise RowError(self.path, line, f"{fault}; quote fields that hold commas")
            yield Row(line, offset, dict(zip(self._columns, record, strict=True)))

    def _record(self, reader: Iterator[list[str]], lines: "_Lines") -> list[str] | None:
        try:
            return next(reader, None)
        except csv.Error as error:
            fix = "check the quotes, or give the file as JSONL"
            raise RowError(self.path, lines.line, f"is not CSV ({error}); {fix}") from error

    def _header(self, columns: list[str] | None) -> list[str]:
        if not columns:
            raise RowError(self.path, 1, "is empty; the first line names the columns")
        twice = {name for name in columns if columns.count(name) > 1}
        if twice:
            raise RowError(self.path, 1, f"column `{min(twice)}` stands there twice")
        return columns


class _Lines(Iterator[str]):
    """Decoded lines, counted: csv reads no line before it needs it."""

    def __init__(self, file: BinaryIO, path: Path, line: int) -> None:
        self._file = file
        self._path = path
        self.line = line
        self.consumed = 0

    def __next__(self) -> str:
        raw = self._file.readline()
        if not raw:
            raise StopIteration
        self.line += 1
        self.consumed += len(raw)
        return _decoded(raw, self._path, self.line)


def _decoded(raw: bytes, path: Path, line: int) -> str:
    try:
        return raw.removeprefix(_BOM if line == 1 else b"").decode()
    except UnicodeDecodeError as error:
        raise RowError(path, line, f"is not UTF-8 (byte {error.start})") from error


def one_column(path: Path, column: str | None, fields: dict[str, Any]) -> str:
    """The name of the column to read: the one that is named, or the only one."""
    names = ", ".join(f"`{name}`" for name in fields)
    if column is None:
        if len(fields) == 1:
            return next(iter(fields))
        raise WorkloadError(f"{path.name}: name its column; it has {names}")
    if column not in fields:
        raise WorkloadError(f"{path.name}: has no column `{column}`, but {names}")
    return column
