"""How `loraplex train` looks: the stages with their times, a bar for the one under way, a verdict.

All of it but the verdict goes to stderr, so that a program reads only what it asked for.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from loraplex.client.answers import Version
from loraplex.output import print_fields, print_line, warn
from loraplex.refs import Ref

if TYPE_CHECKING:  # the trainer's libraries are loaded only when a run is asked for
    from training.pipeline import Checked, RunResult

_NEWS_EVERY_S = 30.0
"""Between lines about one stage where they cannot be overwritten."""

_STAGE = re.compile(r"(:? step \d|,).*")
"""What follows a stage's name."""

Clock = Callable[[], float]


class Stages:
    """Told of progress; says each stage once, with its time, and how far the present one is."""

    def __init__(self, console: Console, bar: Progress, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._bar = bar
        self._clock = clock
        self._stage: str | None = None
        self._began_s = 0.0
        self._said_s = 0.0
        self._task = bar.add_task("", total=None, visible=False)

    def __call__(self, text: str, fraction: float | None) -> None:
        """text: the stage, and behind a comma or its step what is known of it (loss, tokens/s)."""
        stage = _STAGE.sub("", text)
        if stage != self._stage:
            self.end()
            self._begin(stage)
        if self._console.is_terminal:
            self._bar.update(
                self._task, description=text, completed=fraction or 0.0, total=_total(fraction)
            )
        elif text != stage and self._clock() - self._said_s >= _NEWS_EVERY_S:
            self._said_s = self._clock()
            done = "" if fraction is None else f"{fraction:4.0%} "
            self._console.print(Text(f"  {done}{text}"), soft_wrap=True)

    def end(self) -> None:
        """The present stage is done."""
        if self._stage is not None and self._console.is_terminal:
            took = duration(self._clock() - self._began_s)
            self._console.print(Text.assemble(("✓ ", "green"), self._stage, (f"  {took}", "dim")))
        self._stage = None
        self._bar.update(self._task, visible=False)

    def _begin(self, stage: str) -> None:
        self._stage, self._began_s = stage, self._clock()
        self._said_s = self._began_s
        self._bar.reset(self._task, description=stage, visible=True, total=None)
        if not self._console.is_terminal:
            self._console.print(Text(stage), soft_wrap=True)


def _total(fraction: float | None) -> float | None:
    return None if fraction is None else 1.0


@contextmanager
def stages() -> Iterator[Stages]:
    """Shows progress on stderr while the block runs."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    disable = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as bar:
        shown = Stages(console, bar)
        yield shown
        shown.end()


def duration(seconds: float) -> str:
    """`75` as `1 min 15 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def show_result(result: "RunResult") -> None:
    """The verdict first, then each gate with its reason, and where the report lies."""
    from rich.table import Table

    report = result.report
    colours = {"passed": "green", "rejected": "red", "inconclusive": "yellow"}
    console = Console()
    console.print(Text(report.verdict.capitalize(), style=f"bold {colours[report.verdict]}"))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("OUTCOME", no_wrap=True)
    table.add_column("GATE", overflow="fold")
    table.add_column("WHY", overflow="fold")
    marks = {"pass": "green", "fail": "red", "inconclusive": "yellow"}
    for gate in report.gates:
        style = marks[gate.outcome]
        table.add_row(Text(gate.outcome, style=style), Text(gate.gate), Text(gate.reason))
    console.print(table)
    if report.training.overfit is not None:
        warn(report.training.overfit)
    print_line(f"Report:  {result.page}")
    print_line(f"Adapter: {result.adapter_dir}")


def show_unregistered(result: "RunResult") -> None:
    """What to do with a result that lies only here."""
    if result.report.evaluation is not None:
        again = f"{result.report.command} --register TENANT/ADAPTER"
        print_line(f"Next:    {again}  (trains nothing anew)")


def show_registered(result: "RunResult", ref: Ref, version: Version) -> None:
    """Where the version stands, and what to do with it."""
    label = f"{ref}@{version['version']}"
    print_line(f"Version: {label} ({version['state']})")
    if result.verdict == "passed" and version["state"] != "live":
        print_line(f"Next:    loraplex adapters promote {label}")
    elif result.verdict == "inconclusive":
        print_line(
            "Next:    hold out more rows and train again; or decide yourself: "
            f"loraplex adapters evaluate {label} --passed"
        )


def estimate_fields(checked: "Checked") -> dict[str, Any]:
    """What a dry run found, for programs."""
    prepared, preflight = checked.prepared, checked.preflight
    return {
        "dataset": prepared.version,
        "rows": {
            "train": len(prepared.train),
            "validation": len(prepared.validation),
            "test": len(prepared.test),
        },
        "longest_tokens": preflight.longest_tokens,
        "memory_bytes": preflight.memory.total_bytes,
        "micro_batch_size": preflight.memory.micro_batch_size,
        "warnings": list(checked.warnings),
    }


def show_estimate(checked: "Checked") -> None:
    """What a dry run found: rows, memory, warnings, and a row as the model will see it."""
    prepared, preflight = checked.prepared, checked.preflight
    rows = f"{len(prepared.train)} train, {len(prepared.validation)} validation, "
    print_fields(
        [
            ("rows", f"{rows}{len(prepared.test)} test"),
            ("data set", prepared.version[:12]),
            ("longest row", f"{preflight.longest_tokens} tokens"),
            ("memory", preflight.memory.told()),
        ]
    )
    for text in checked.warnings:
        warn(text)
    print_line("Every check passed; nothing was written.")
