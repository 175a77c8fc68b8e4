"""Everything that is looked at in a data set, put together to its report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.classes import Classes, classes_of
from training.data.fingerprints import Progress, digest
from training.data.joined import Joined
from training.data.lengths import CountEach, Measured, length_findings, measure
from training.data.readiness import (
    advice,
    class_findings,
    relation_findings,
    row_findings,
)
from training.data.repeats import (
    contradiction_findings,
    contradictions,
    copies,
    duplicate_findings,
    leak_finding,
    leaks,
    near_copies,
)
from training.data.report import (
    ClassCounts,
    DataReport,
    FileSummary,
    Finding,
    Leak,
    Lengths,
    Repeats,
    SampleRow,
)
from training.data.rows import DataFile, Row
from training.data.similar import Similar, compare_rows
from training.data.structure import Observed, observe, role_findings, structure_findings
from training.data.texts import answer_of
from training.data.thresholds import SAMPLE_ROWS
from training.data.unrelated import relation
from training.data.version import version_of_parts
from training.errors import DataError, TrainingError

_ORDER = {"error": 0, "warning": 1, "advice": 2}
_SAMPLE_CHARS = 600
_LISTED = 20
"""Bad rows told one by one where there is no other row."""
_TEMPLATE = "chat_template"
"""The field of a DataError that is not the row's fault."""


@dataclass(frozen=True)
class Checked:
    """A data set's report, and how its rows compare (for splitting without comparing again)."""

    report: DataReport
    similar: Similar


@dataclass(frozen=True)
class _Found:
    """What the parts of the check have seen."""

    classes: Classes
    seen: Observed
    measured: Measured | None
    repeats: Repeats
    leaks: tuple[Leak, ...]
    findings: tuple[Finding, ...]


def check(
    parts: Mapping[str, DataFile],
    *,
    count: CountEach | None = None,
    limit: int | None = None,
    progress: Progress = lambda *_: None,
) -> Checked:
    """Look at the files of a data set. parts: name -> file; held-out ones behind what is learned.

    count: of tokens; without it lengths are not looked at. limit: tokens of a row at most.
    Raises TrainingError where the files do not belong together, or have no good row at all.
    """
    _check_kinds(parts)
    rows = Joined(parts)
    if not len(rows):
        raise TrainingError(_no_row(parts))
    similar = compare_rows(rows, progress)
    measured = None if count is None else measure(rows, count, limit, progress)
    progress("looking at answers", None)
    found = _look(rows, similar, measured)
    return Checked(_report(rows, found), similar)


def _no_row(parts: Mapping[str, DataFile]) -> str:
    bad = [f"  {name}, {error.message}" for name, part in parts.items() for error in part.bad]
    more = [f"  and {len(bad) - _LISTED} more"] if len(bad) > _LISTED else []
    return "\n".join(["no row can be used:", *bad[:_LISTED], *more])


def _check_kinds(parts: Mapping[str, DataFile]) -> None:
    kinds = {name: part.kind for name, part in parts.items() if len(part.rows)}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{name} holds {kind} rows" for name, kind in kinds.items())
        raise TrainingError(f"the files are of two kinds ({listed}); check them apart")


def _look(rows: Joined, similar: Similar, measured: Measured | None) -> _Found:
    classes, seen = classes_of(rows), observe(rows)
    system = similar.prints.shared_system
    exact, near = copies(rows, similar), near_copies(rows, similar)
    pairs = contradictions(rows, similar)
    leaked = [*leaks(rows, similar)]
    refused = [] if measured is None else measured.refused

    def findings() -> Iterator[Finding]:
        yield from bad_findings(rows, refused)
        yield from () if measured is None else length_findings(rows, measured)
        yield from contradiction_findings(rows, pairs)
        yield from (leak_finding(rows, *leak) for leak in leaked)
        # Each file apart: right answers in one would hide those that are shuffled in another.
        for name, part in rows.parts.items():
            yield from relation_findings(name, relation(part.rows, system))
        learned = len(rows.parts[rows.names[0]].rows)
        yield from row_findings(learned, len(rows) - learned)
        yield from role_findings(rows, seen)
        yield from structure_findings(rows, seen)
        yield from duplicate_findings(rows, similar, exact, near)
        yield from class_findings(classes)
        yield from advice(rows, classes, system)

    members = {row for pair in pairs for row in pair}
    return _Found(
        classes=classes,
        seen=seen,
        measured=measured,
        repeats=Repeats(copies=len(exact), near=len(near), contradictory=len(members)),
        leaks=tuple(leak for leak, _ in leaked),
        findings=tuple(sorted(findings(), key=lambda one: _ORDER[one.severity])),
    )


def bad_findings(rows: Joined, refused: Sequence[tuple[int, DataError]] = ()) -> Iterator[Finding]:
    """Rows that cannot be used, file by file. refused: those whose tokens could not be counted."""
    unfit = [(row, error) for row, error in refused if error.field == _TEMPLATE]
    for number, (name, part) in enumerate(rows.parts.items()):
        late = [e for row, e in refused if rows.part(row) == number and e.field != _TEMPLATE]
        bad = sorted([*part.bad, *late], key=lambda error: error.line)
        if bad:
            total = len(part.rows) + len(part.bad)
            yield Finding(
                code="bad_rows",
                severity="error",
                message=f"{len(bad):,} of {total:,} rows cannot be used; mend or remove them",
                file=name,
                lines=tuple(error.line for error in bad),
                examples=tuple(error.message for error in bad),
            )
    if unfit:
        yield from rows.findings(
            _TEMPLATE,
            "error",
            lambda count, total: (
                f"{count:,} of {total:,} rows do not fit the base's chat template: it"
                f" {unfit[0][1].problem}"
            ),
            [row for row, _ in unfit],
        )


def _report(rows: Joined, found: _Found) -> DataReport:
    lengths: Lengths | None = found.measured.lengths if found.measured else None
    return DataReport(
        kind=next(part.kind for part in rows.parts.values() if len(part.rows)),
        version=data_version(rows.parts),
        files=tuple(
            FileSummary(
                name=name,
                rows=len(part.rows),
                bad=len(part.bad),
                sha256=part.sha256,
                version=part.version,
            )
            for name, part in rows.parts.items()
        ),
        rows=len(rows),
        lengths=lengths,
        roles=found.seen.roles(),
        structure=found.seen.structure(),
        classes=ClassCounts(
            source=found.classes.source, counts=tuple(found.classes.counts().most_common())
        ),
        repeats=found.repeats,
        leaks=found.leaks,
        sample=_sample(rows, found.classes),
        findings=found.findings,
    )


def data_version(parts: Mapping[str, DataFile]) -> str:
    """Of one file its own; of several the digest of them all, each in its role."""
    if len(parts) == 1:
        return next(iter(parts.values())).version
    # train.jsonl is the part `train`, as in what `data split` and a run write down.
    return version_of_parts({Path(name).stem: part.version for name, part in parts.items()})


def _sample(rows: Joined, classes: Classes) -> tuple[SampleRow, ...]:
    """Rows to look at, in turn from each class; the same ones for the same data."""
    queues: dict[str | None, list[tuple[int, int]]] = {}
    for i, (row, name) in enumerate(zip(rows, classes.of, strict=True)):
        mine = (digest(f"{_asked(row)}\0{answer_of(row)['content']}"), i)
        queue = queues.setdefault(name, [])
        queue.append(mine)
        if len(queue) > 4 * SAMPLE_ROWS:
            queue[:] = sorted(queue)[:SAMPLE_ROWS]
    ranked = [sorted(queue)[:SAMPLE_ROWS] for queue in queues.values()]
    turns = sorted((turn, one) for queue in ranked for turn, one in enumerate(queue))
    return tuple(_shown(rows, i, classes.of[i]) for _, (_, i) in turns[:SAMPLE_ROWS])


def _shown(rows: Joined, i: int, label: str | None) -> SampleRow:
    row = rows[i]
    return SampleRow(
        file=rows.names[rows.part(i)],
        line=row.line,
        input=_asked(row)[:_SAMPLE_CHARS],
        answer=answer_of(row)["content"][:_SAMPLE_CHARS],
        label=label,
    )


def _asked(row: Row) -> str:
    return row.prompt[-1]["content"]
