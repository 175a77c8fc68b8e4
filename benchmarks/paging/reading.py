"""Reads a result's page (results/DATE-NAME.md): its tables and claims by heading."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"(\d{4}-\d\d-\d\d)-(.+)\.md")
_CLAIM = re.compile(r"- (held|\*\*not held\*\*): (.+)")
_COMMAND = re.compile(r"`(python benchmarks/[^`]+)`")
_PLACES = re.compile(r" --(?:out|work-dir) \S+")
_RULE = re.compile(r"[\s|:-]+")


@dataclass(frozen=True)
class Table:
    """Cells as they stand, without the line below the head."""

    head: list[str]
    rows: list[list[str]]
    lines: list[str]

    def column(self, name: str) -> int | None:
        """The place of a column, by its whole title."""
        return self.head.index(name) if name in self.head else None


@dataclass(frozen=True)
class Claim:
    """What a report says of something that was to hold."""

    text: str
    held: bool


@dataclass(frozen=True)
class Part:
    """What stands below one heading; "" before the first."""

    heading: str
    tables: list[Table]
    claims: list[Claim]


@dataclass(frozen=True)
class Report:
    """One result."""

    name: str
    date: str
    file: str
    """The page's file name."""
    partial: bool
    command: str | None
    """What was run, where the page says it; without the machine's folders."""
    parts: list[Part]

    @property
    def claims(self) -> list[Claim]:
        return [claim for part in self.parts for claim in part.claims]

    def tables(self, headings: str) -> list[tuple[str, Table]]:
        """With the heading above each; headings: a regular expression that one must match."""
        return [
            (part.heading, table)
            for part in self.parts
            if re.search(headings, part.heading)
            for table in part.tables
        ]


def newest(folder: Path, name: str) -> Report | None:
    """The newest result of that name; None where there is none."""
    found = [
        (match[1], file)
        for file in folder.glob("*.md")
        if (match := _NAME.fullmatch(file.name)) and match[2] == name
    ]
    if not found:
        return None
    date, file = max(found)
    return read(name, date, file.name, file.read_text(encoding="utf-8"))


def read(name: str, date: str, file: str, text: str) -> Report:
    """A result from its page."""
    parts = [_part(heading, lines) for heading, lines in _by_heading(text)]
    said = _COMMAND.search(text)
    command = None if said is None else _PLACES.sub("", said[1])
    return Report(name, date, file, "**Partial" in text, command, parts)


def _by_heading(text: str) -> Iterator[tuple[str, list[str]]]:
    heading, lines = "", list[str]()
    for line in text.splitlines():
        if line.startswith("## "):
            yield heading, lines
            heading, lines = line.removeprefix("## "), []
        else:
            lines.append(line)
    yield heading, lines


def _part(heading: str, lines: list[str]) -> Part:
    claims = [_claim(*match.groups()) for line in lines if (match := _CLAIM.fullmatch(line))]
    tables = [_table(block) for block in _blocks(lines)]
    told = [table for table in tables if table.head[0] == "claim"]
    claims += [claim for table in told for row in table.rows for claim in _of_row(row)]
    return Part(heading, [table for table in tables if table not in told], claims)


def _claim(word: str, text: str) -> Claim:
    return Claim(text, held=word == "held")


def _of_row(row: list[str]) -> Iterator[Claim]:
    """Of a table `claim | measured | held`; what was not measured is left out."""
    claim, *measured, word = row
    if word in ("held", "**not held**"):
        yield _claim(word, ": ".join([claim, *filter(None, measured)]))


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines that make a table."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            block.append(line)
        elif block:
            yield block
            block = []


def _table(lines: list[str]) -> Table:
    head, *rows = [_cells(line) for line in lines if not _RULE.fullmatch(line)]
    return Table(head, rows, lines)


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", inner)]
