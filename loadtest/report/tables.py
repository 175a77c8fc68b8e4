"""A result as CSV files, for spreadsheets and notebooks."""

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import astuple, fields
from pathlib import Path

from loadtest.report.result import Result
from loadtest.report.writing import replacing
from loadtest.statistics.group import GroupSummary
from loadtest.statistics.histogram import Spread
from loadtest.statistics.rows import OUTCOMES, PHASES
from loadtest.statistics.timeline import Cell

REQUESTS_FILE = "requests.csv"
FIGURES_FILE = "figures.csv"
TIMELINE_FILE = "timeline.csv"
TABLE_FILES = (REQUESTS_FILE, FIGURES_FILE, TIMELINE_FILE)

Value = str | float | int | None
_TIMES = ("intended_s", "sent_s", "ended_s", "ttft_s", "itl_s", "tpot_s", "e2e_s")
_REQUEST_COLUMNS = (
    "index", "phase", "tenant", "model", "outcome", *_TIMES, "prompt_tokens", "output_tokens",
    "cold_start",
)  # fmt: skip
_FIGURE_COLUMNS = ("of", "name", "figure", "statistic", "value", "unit")
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # noqa: RUF001
"""A spreadsheet may take a cell that begins so for a formula."""


def write_tables(result: Result, folder: Path) -> list[Path]:
    """Writes requests.csv (a row a request that is kept, all phases), figures.csv (a row a value:
    of all, each tenant and each model) and timeline.csv (a row a stretch of time) to `folder`.

    Times are seconds, what is not there is empty. Names that a spreadsheet would take for a formula
    begin with an apostrophe. Each file is whole or not there. Raises OSError, and StatisticsError
    where the rows are damaged.
    """
    return [
        _write(folder / REQUESTS_FILE, _REQUEST_COLUMNS, _requests(result)),
        _write(folder / FIGURES_FILE, _FIGURE_COLUMNS, _figures(result)),
        _write(
            folder / TIMELINE_FILE,
            [one.name for one in fields(Cell)],
            (astuple(cell) for cell in result.timeline),
        ),
    ]


def harmless(text: str) -> str:
    """The same text, which no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULAS) else text


def _write(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Value]]) -> Path:
    with replacing(path) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)
    return path


def _cell(value: Value) -> str:
    match value:
        case None:
            return ""
        case str():
            return harmless(value)
        case float():
            return "" if math.isnan(value) else f"{value:.9g}"
        case _:
            return str(value)


def _requests(result: Result) -> Iterator[tuple[Value, ...]]:
    tenants, models = result.names("tenants"), result.names("models")
    table = result.table()
    columns = [table[name].tolist() for name in table.dtype.names or ()]
    for values in zip(*columns, strict=True):
        row = dict(zip(table.dtype.names or (), values, strict=True))
        yield (
            row["index"],
            PHASES[row["phase"]],
            tenants[row["tenant"]],
            models[row["model"]],
            OUTCOMES[row["outcome"]],
            *(row[name] for name in _TIMES),
            _known(row["prompt_tokens"]),
            _known(row["output_tokens"]),
            int(row["cold_start"]),
        )


def _known(tokens: int) -> int | None:
    return None if tokens < 0 else tokens


def _figures(result: Result) -> Iterator[tuple[Value, ...]]:
    for figure, statistic, value, unit in _of_all(result):
        yield "all", "", figure, statistic, value, unit
    for of, groups, other in (
        ("tenant", result.tenants, result.other_tenants),
        ("model", result.models, result.other_models),
    ):
        named = [(of, name, group) for name, group in groups.items()]
        named += [] if other is None else [(f"other {of}s", "", other)]
        for what, name, group in named:
            for figure, statistic, value, unit in _of_group(group):
                yield what, name, figure, statistic, value, unit


Told = tuple[str, str, Value, str]


def _of_all(result: Result) -> Iterator[Told]:
    whole = GroupSummary(
        **{one.name: getattr(result, one.name) for one in fields(GroupSummary)}  # the same names
    )
    yield from _of_group(whole)
    yield from _spread("lag", result.lag_s)
    for kind, many in result.errors.items():
        yield "errors", kind, many, "requests"
    if result.cost is not None:
        for one in fields(result.cost):
            yield "cost", one.name, getattr(result.cost, one.name), "money"


def _of_group(group: GroupSummary) -> Iterator[Told]:
    requests = group.requests
    for name in ("sent", "ok", "failed", "cancelled"):
        yield "requests", name, getattr(requests, name), "requests"
    for name in ("ttft", "itl", "tpot", "e2e", "queue", "cold_ttft"):
        yield from _spread(name, getattr(group, f"{name}_s"))
    throughput = group.throughput
    yield "throughput", "requests", throughput.requests_per_s, "1/s"
    yield "throughput", "output_tokens", throughput.output_tokens_per_s, "1/s"
    yield "throughput", "total_tokens", throughput.total_tokens_per_s, "1/s"
    yield "tokens", "prompt", group.prompt_tokens, "tokens"
    yield "tokens", "output", group.output_tokens, "tokens"
    yield "cold_starts", "count", group.cold_starts, "requests"
    if group.goodput is not None:
        yield "goodput", "good", group.goodput.good, "requests"
        yield "goodput", "share", group.goodput.share, "share"
        yield "goodput", "per_s", group.goodput.per_s, "1/s"


def _spread(name: str, spread: Spread) -> Iterator[Told]:
    for one in fields(spread):
        yield name, one.name, getattr(spread, one.name), "values" if one.name == "count" else "s"
