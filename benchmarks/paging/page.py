"""docs/benchmarks.md, made from the newest results."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.paging.losses import losses
from benchmarks.paging.reading import Report, newest
from benchmarks.paging.sections import SECTIONS, Section, Shown

_HEAD = """\
# Benchmarks

What was measured, each with the command that measures it again, and
[where we lose](#where-we-lose). Every run records machine, versions and commit in its report. How
each benchmark is set up and how to read it: [benchmarks/README.md](../benchmarks/README.md).
Compare ratios, not absolute figures: two cores carry engine, gateway and load generator together.
`make bench` runs all of them, with `ARGS="--quick"` just to see them work.

This page is printed by `scripts/benchmarks_page.py` from the newest files in
`benchmarks/results/`; a test compares them.
"""
_NONE = "There is no result yet.\n"
_LOSE = """\
## Where we lose

Every claim that did not hold in the newest results, and what else a peer does clearly better there
with requests and streams:
"""
_NOWHERE = "- Nowhere, by the newest results.\n"


def page(results: Path) -> str:
    """The whole page. results: the folder of them."""
    reports = {
        shown.name: report
        for section in SECTIONS
        for shown in section.results
        if (report := newest(results, shown.name)) is not None
    }
    lost = losses({name: _narrowed(report) for name, report in reports.items()})
    lines = "".join(f"- {line}\n" for line in lost) or _NOWHERE
    parts = [_HEAD, f"{_LOSE}\n{lines}", *(_section(one, reports) for one in SECTIONS)]
    return "\n".join(parts)


def _narrowed(report: Report) -> Report:
    """With the claims alone that the page shows: another result tells the rest anew."""
    (shown,) = (one for section in SECTIONS for one in section.results if one.name == report.name)
    parts = [
        replace(part, claims=[one for one in part.claims if re.search(shown.claims, one.text)])
        for part in report.parts
    ]
    return replace(report, parts=parts)


def _section(section: Section, reports: dict[str, Report]) -> str:
    lines = [f"## {section.title}\n", f"{section.what}\n", f"```\n{section.command}\n```\n"]
    found = [(shown, reports[shown.name]) for shown in section.results if shown.name in reports]
    for shown, report in found:
        lines += _result(shown, _narrowed(report))
    return "\n".join([*lines, *([] if found else [_NONE])])


def _result(shown: Shown, report: Report) -> Iterator[str]:
    partial = ", ended early" if report.partial else ""
    # In these documents `loraplex WORD` is always the command, so sides are called otherwise.
    told = (report.command or "").replace(" loraplex ", " 'loraplex' ")
    command = f", `{told}`" if told else ""
    file = f"../benchmarks/results/{report.file}"
    yield f"[{report.name}]({file}), {report.date}{partial}{command}:\n"
    if report.claims:
        words = {True: "held", False: "**not held**"}
        yield "".join(f"- {words[claim.held]}: {claim.text}\n" for claim in report.claims)
    above = None
    for heading, table in report.tables(shown.headings):
        if heading != above and heading:
            yield f"{heading[0].upper()}{heading[1:]}:\n"
        above = heading
        yield "\n".join(table.lines).replace("| loraplex", "| Loraplex") + "\n"
