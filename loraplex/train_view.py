"""How `loraplex train` looks: what a dry run found, the verdict, and what comes next."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from loraplex.client.answers import Version
from loraplex.output import print_fields, print_line, warn
from loraplex.refs import Ref

if TYPE_CHECKING:  # the trainer's libraries are loaded only when a run is asked for
    from training.pipeline import Checked, RunResult


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
