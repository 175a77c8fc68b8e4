"""How `loraplex data` looks: figures first, then rows to look at, and what was found at the end."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from loraplex.output import print_fields, print_line, print_table

if TYPE_CHECKING:  # the training module is loaded only by the command that needs it
    from training.data.report import DataReport, Finding, Lengths
    from training.data.segments import SeenRow
    from training.data.split_folder import Dataset

_SHOWN = 6
_EXAMPLES = 50
_CLASS_CHARS = 40
_SAMPLE_CHARS = 200
_BARS = "▁▂▃▄▅▆▇█"
_STYLES = {"error": "bold red", "warning": "bold yellow", "advice": "bold cyan"}
_MARKS = {
    "read": ("", "", "dim"),
    "learned": ("⟦", "⟧", "bold green"),
    "rejected": ("⟬", "⟭", "red"),
}


def show_report(report: "DataReport") -> None:
    """The whole report, 80 columns wide."""
    console = Console()
    print_table(
        ["FILE", "ROWS", "BAD", "VERSION"],
        [(one.name, f"{one.rows:,}", f"{one.bad:,}", one.version[:12]) for one in report.files],
        empty="",
        right="ROWS BAD",
    )
    print_line("")
    print_fields(_figures(report))
    _heading(console, "Rows to look at: does the answer fit?")
    for row in report.sample:
        console.print(Text(f"{row.file} line {row.line}", style="dim"), soft_wrap=True)
        _indented(console, _cut(row.input), "")
        _indented(console, _cut(row.answer), "green")
    _heading(console, "What was found")
    for finding in report.findings:
        _show_finding(console, finding)
    print_line(_summary(report))


def _figures(report: "DataReport") -> Iterable[tuple[str, object]]:
    yield "Data set", f"{report.version[:12]}, {report.rows:,} {report.kind} rows"
    if report.lengths is not None and report.lengths.longest:
        yield "Tokens a row", _lengths(report.lengths)
        if report.lengths.histogram:
            first, last = report.lengths.histogram[0][0], report.lengths.histogram[-1][0]
            yield "", f"{_bars([count for _, count in report.lengths.histogram])} {first} to {last}"
    roles = report.roles
    yield "System prompts", f"{roles.system_prompts:,}, in {roles.with_system:,} rows"
    yield "User turns", ", ".join(f"{turns} ({count:,})" for turns, count in roles.turns[:_SHOWN])
    yield "Answers", _counts(report.structure.formats)
    if report.structure.keys:
        yield "JSON keys", _counts(report.structure.keys)
    if report.classes.source is not None:
        counts = report.classes.counts
        yield f"Classes ({report.classes.source})", f"{len(counts)}: {_counts(counts)}"
    repeats = report.repeats
    yield "Copies", f"{repeats.copies:,} exact, {repeats.near:,} near"
    yield "Contradictory", f"{repeats.contradictory:,}"
    for leak in report.leaks:
        yield "Leaked", f"{leak.same:,} of {leak.held_out} in {leak.learned}, {leak.near:,} nearly"


def _lengths(lengths: "Lengths") -> str:
    limit = "no limit known" if lengths.limit is None else f"limit {lengths.limit:,}"
    return (
        f"median {lengths.p50:,}, 90 % up to {lengths.p90:,}, longest {lengths.longest:,}"
        f" ({limit}: {lengths.over:,} over); {lengths.total:,} in all"
    )


def _bars(counts: Sequence[int]) -> str:
    most = max(counts)
    return "".join(
        _BARS[min(len(_BARS) - 1, count * len(_BARS) // most)] if count else " " for count in counts
    )


def _counts(counts: Sequence[tuple[str, int]]) -> str:
    shown = ", ".join(f"{name[:_CLASS_CHARS]} ({count:,})" for name, count in counts[:_SHOWN])
    return shown + (", ..." if len(counts) > _SHOWN else "")


def _show_finding(console: Console, finding: "Finding") -> None:
    label = (f"{finding.severity} ", _STYLES[finding.severity])
    console.print(Text.assemble(label, (f"{finding.code}: ", "bold"), finding.message))
    if where := finding.where():
        _indented(console, where, "dim")
    for example in finding.examples[:_EXAMPLES]:
        _indented(console, example, "")
    if (more := len(finding.examples) - _EXAMPLES) > 0:
        _indented(console, f"and {more:,} more, which --json and --html list", "dim")


def _summary(report: "DataReport") -> str:
    errors, warnings = len(report.of("error")), len(report.of("warning"))
    if errors:
        return f"Not to be trained on as it is: {_plural(errors, 'error')}, see above."
    if warnings:
        return f"Can be trained on; {_plural(warnings, 'warning')} to read above."
    return "Can be trained on."


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def show_split(folder: Path, dataset: "Dataset") -> None:
    """What `data split` wrote."""
    print_table(
        ["FILE", "ROWS", "VERSION"],
        [
            (f"{folder / name}.jsonl", f"{part.rows:,}", part.version[:12])
            for name, part in dataset.parts.items()
        ],
        empty="",
        right="ROWS",
    )
    print_line(f"Data set {dataset.version[:12]}, kept in {folder / 'dataset.json'}.")
    print_line(f"Look at it: loraplex data check {folder}")


def show_row(row: "SeenRow") -> None:
    """Marked as well as coloured, so that it can be read in a file too."""
    console = Console()
    learned, read = row.tokens("learned"), row.tokens("read")
    rejected = row.tokens("rejected")
    counted = f"{read:,} tokens read, {learned:,} learned"
    counted += f", {rejected:,} to be avoided" if rejected else ""
    console.print(Text(f"line {row.line}: {counted}", style="bold"), soft_wrap=True)
    text = Text()
    for segment in row.segments:
        start, end, style = _MARKS[segment.role]
        text.append(f"{start}{segment.text}{end}", style=style)
    console.print(text, soft_wrap=True)
    console.print()


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold underline"))


def _indented(console: Console, text: str, style: str) -> None:
    console.print(Padding(Text(text, style=style), (0, 0, 0, 2)))


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SAMPLE_CHARS else line[: _SAMPLE_CHARS - 3] + "..."
