"""Results of runs made up for the tests of what is shown, and what a console makes of it."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from loadtest.client.target import Target
from loadtest.report.machine import Machine
from loadtest.report.make import About, make_result
from loadtest.report.result import Result
from loadtest.running.options import Options
from loadtest.running.state import RunOutcome
from loadtest.running.tester import Verdict
from loadtest.samples import Sample
from loadtest.statistics.goodput import parse_slo
from loadtest.statistics.measured import Measured
from loadtest.workload.loading import make_workload

KEPT_UP = Verdict(False, (), 0.0001, 0.0002, 0.00031, 0.001, 0.0005, 0.001, 0.12)
COMPLETED = RunOutcome("completed", None, 61.2, 4, 0, KEPT_UP, 1)
ABOUT = About(
    datetime(2026, 11, 22, 18, 30, tzinfo=UTC),
    Machine("Linux", "CPU", 2, 8 * 2**30, "3.11.7", "0.1.0"),
)


def result(
    samples: Iterable[Sample],
    slo: str | None = None,
    outcome: RunOutcome = COMPLETED,
    about: About = ABOUT,
    **changed: Any,
) -> Result:
    """What a run with these samples leaves; `changed` replaces the outcome's fields."""
    measured = Measured(None if slo is None else parse_slo(slo), rows=1000)
    for sample in samples:
        measured.add(sample)
    arrivals = {"kind": "constant", "stages": [{"rate": 1, "seconds": 60}]}
    workload = make_workload({"models": ["bot"], "arrivals": arrivals}, Path.cwd())
    target = Target("http://127.0.0.1:8000")
    return make_result(measured, replace(outcome, **changed), workload, target, Options(), about)


def shown(what: RenderableType, width: int = 80) -> str:
    """The text as it stands on a console, without the spaces at the lines' ends."""
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(what)
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    return "\n".join(line.rstrip() for line in lines)
