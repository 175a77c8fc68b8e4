"""Recorded traffic as a schedule: a file's rows in time order, checked before anything is sent."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from loadtest.workload.arrivals import Trace
from loadtest.workload.errors import RowError, WorkloadError
from loadtest.workload.files import Row, RowFile

_KNOWN = {
    "timestamp": ("timestamp", "time", "ts", "arrivaltime", "arrivedat", "at"),
    "tenant": ("tenant", "tenantid"),
    "model": ("model", "adapter"),
    "prompt_tokens": (
        "prompttokens", "inputtokens", "inputlength", "promptlen", "contexttokens",
        "requesttokens", "numprefilltokens",
    ),
    "max_tokens": (
        "maxtokens", "outputtokens", "completiontokens", "outputlength", "outputlen",
        "generatedtokens", "responsetokens", "numdecodetokens",
    ),
}  # fmt: skip
"""What published traces call them, without case, spaces and marks."""
_KEPT_SHAPES = 1000
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of a request before anything is drawn. Of all but a trace only the time."""

    at_s: float | None
    """None in a closed loop."""
    line: int | None = None
    """Of the trace."""
    tenant: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    max_tokens: int | None = None


def read_trace(trace: Trace) -> Iterator[Arrival]:
    """The trace's arrivals, in constant memory; the first comes at 0. Raises WorkloadError."""
    columns = _Columns(trace)
    first: float | None = None
    before = 0.0
    for row in RowFile(trace.path).rows():
        names = columns.of(row)
        at = _timestamp(trace, row.line, names["timestamp"], row.fields)
        if first is None:
            first = before = at
        if at < before:
            fault = "comes before the row above; sort the file by time"
            raise RowError(trace.path, row.line, fault)
        before = at
        at_s = (at - first) / trace.speed
        if trace.seconds is not None and at_s >= trace.seconds:
            return
        yield Arrival(
            at_s,
            row.line,
            _name(row.fields.get(names.get("tenant", ""))),
            _name(row.fields.get(names.get("model", ""))),
            _tokens(trace, row.line, names.get("prompt_tokens"), row.fields),
            _tokens(trace, row.line, names.get("max_tokens"), row.fields),
        )
    if first is None:
        raise WorkloadError(f"{trace.path.name}: holds no row")


class _Columns:
    """What the columns are called. Rows of JSON may lack some: each shape is looked at once."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._named = trace.columns.model_dump()
        self._known: dict[tuple[str, ...], dict[str, str]] = {}

    def of(self, row: Row) -> dict[str, str]:
        """By our names the file's, of the columns that the row has. Raises WorkloadError."""
        shape = tuple(row.fields)
        if shape not in self._known:
            if not self._known:
                self._check_named(shape)
            elif len(self._known) == _KEPT_SHAPES:
                self._known.clear()
            self._known[shape] = self._found(shape, row.line)
        return self._known[shape]

    def _check_named(self, shape: tuple[str, ...]) -> None:
        """The first row has every column that the workload names."""
        for column, named in self._named.items():
            if named and named not in shape:
                raise WorkloadError(
                    f"arrivals.columns.{column}: {self._trace.path.name} has no column `{named}`,"
                    f" but {_listed(shape)}"
                )

    def _found(self, shape: tuple[str, ...], line: int) -> dict[str, str]:
        there = {"".join(filter(str.isalnum, name)).lower(): name for name in shape}
        found: dict[str, str] = {}
        for column, named in self._named.items():
            usual = (there[known] for known in _KNOWN[column] if known in there)
            name = next(usual, None) if named is None else named
            if name in shape:
                found[column] = name
        if "timestamp" not in found:
            raise WorkloadError(
                f"arrivals.columns.timestamp: name the column of the times; {self._trace.path.name}"
                f" has in line {line} {_listed(shape)}"
            )
        return found


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _timestamp(trace: Trace, line: int, name: str, fields: dict[str, Any]) -> float:
    """Seconds since some moment."""
    given = fields.get(name)
    try:
        at = float(given) / _PER_SECOND[trace.unit]  # type: ignore[arg-type]  # refused below
    except (TypeError, ValueError):
        at = _date(given)
    if not math.isfinite(at):
        raise RowError(
            trace.path, line, f"`{name}` is neither a number nor a date: `{given}`"[:120]
        )
    return at


def _date(given: object) -> float:
    """Seconds since 1970 of an ISO 8601 date, in UTC where it names no zone; NaN for others."""
    try:
        date = datetime.fromisoformat(str(given).strip())
    except ValueError:
        return math.nan
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _name(given: object) -> str | None:
    return str(given) if given not in (None, "") else None


def _tokens(trace: Trace, line: int, name: str | None, fields: dict[str, Any]) -> int | None:
    """Of a request that failed when it was recorded there are 0: it asks for one."""
    given = fields.get(name) if name is not None else None
    if given in (None, ""):
        return None
    try:
        tokens = float(str(given))
    except ValueError:
        tokens = math.nan
    if not tokens >= 0 or tokens != int(min(tokens, 2**53)):
        raise RowError(trace.path, line, f"`{name}` is not a number of tokens: `{given}`"[:120])
    return max(1, int(tokens))
