"""What commands print: tables that fit 80 columns, or JSON. Results on stdout, the rest on stderr.

Colours only on a terminal; text from the gateway is never read as Rich's markup.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

_NAME_CHARS = 36
"""Of a field's name before it is folded."""


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_line(text: str) -> None:
    """One line of a result."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def print_text(text: str) -> None:
    """A document as it is, for a file or a pager."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str, right: str = ""
) -> None:
    """A table; `empty` is said on stderr where there are no rows. right: columns to align right.

    Times are never folded.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    numbers = right.split()
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in numbers else "left",
            overflow="fold",
            no_wrap=name.endswith("(UTC)"),
        )
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    if table.row_count:
        Console().print(table)
    else:
        note(empty)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", overflow="fold", max_width=_NAME_CHARS)
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(Text(name), Text(cell(value)))
    Console().print(table)


def note(text: str) -> None:
    """A remark for the person, beside the result."""
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Something to look at, though the command goes on."""
    _labelled("warning", "yellow", text)


def fail(text: str) -> None:
    """Why the command ends."""
    _labelled("error", "red", text)


def _labelled(label: str, style: str, text: str) -> None:
    line = Text.assemble((f"{label}: ", f"bold {style}"), text)
    Console(stderr=True).print(line, soft_wrap=True)


@contextmanager
def waiting(doing: str) -> Iterator[None]:
    """Says what is waited for while the block runs, if stderr is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(doing)):
        yield


@dataclass(frozen=True)
class Transfer:
    """A bar, told of each block that was moved."""

    progress: Progress
    task: TaskID
    then: str
    """What goes on when all is moved."""

    def __call__(self, size_bytes: int) -> None:
        """So many more bytes were moved."""
        self.progress.advance(self.task, size_bytes)
        if self.progress.finished:
            self.progress.update(self.task, description=self.then)

    def expect(self, total_bytes: int) -> None:
        """Gives the bar its length."""
        self.progress.update(self.task, total=total_bytes)


@contextmanager
def transfer_progress(doing: str, total_bytes: int | None) -> Iterator[Transfer]:
    """A bar with bytes, throughput and time left, if stderr is a terminal. Yields what moves it."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield Transfer(progress, progress.add_task(doing, total=total_bytes), "checking ")


def confirm(question: str, *, assume_yes: bool) -> bool:
    """Asks, if a person is there to answer; a script has made up its mind."""
    if assume_yes or not sys.stdin.isatty():
        return True
    return input_yes(question)


def input_yes(question: str) -> bool:
    """Whether the person answers yes to a question on stderr."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def cell(value: object) -> str:
    """A value as a person reads it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return str(value)


def size(size_bytes: int) -> str:
    """`1536` as `1.5 KiB`."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def when(timestamp: str) -> str:
    """An ISO timestamp as `2026-01-31 12:00` in UTC; as it came if it is none."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return timestamp
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%d %H:%M")
