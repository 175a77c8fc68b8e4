"""Tenants and models as rows of a table, the worst off first."""

from collections.abc import Mapping
from dataclasses import dataclass

from loadtest.report.formats import seconds
from loadtest.statistics.group import GroupSummary

MOST_ROWS = 50
OTHERS = "all others together"


@dataclass(frozen=True, slots=True)
class GroupRow:
    """place: of its colour in plots, None for the one that those without their own share."""

    name: str
    of: GroupSummary
    failed: float | None
    place: int | None


@dataclass(frozen=True, slots=True)
class GroupTable:
    """shown: at most MOST_ROWS. left_out: how many tenants (or models) besides. told: what is
    known of those."""

    shown: list[GroupRow]
    left_out: int
    told: str


def group_table(
    groups: Mapping[str, GroupSummary],
    other: GroupSummary | None,
    colours: Mapping[str, int],
    most: int = MOST_ROWS,
) -> GroupTable:
    """Worst first: by the share of failures, then of requests within objectives, then latency."""
    rows = [_row(name, of, colours.get(name)) for name, of in groups.items()]
    rows.sort(key=_badness, reverse=True)
    shown, rest = rows[:most], rows[most:]
    if other is not None:
        shown.append(_row(OTHERS, other, None))
    return GroupTable(shown, len(rest), _told(rest))


def _row(name: str, of: GroupSummary, place: int | None) -> GroupRow:
    judged = of.requests.ok + of.requests.failed
    return GroupRow(name, of, of.requests.failed / judged if judged else None, place)


def _badness(row: GroupRow) -> tuple[float, float, float]:
    good = row.of.goodput.share if row.of.goodput else None
    slow = row.of.ttft_s.p95 if row.of.ttft_s.p95 is not None else row.of.e2e_s.p95
    return row.failed or 0.0, 0.0 if good is None else 1 - good, slow or 0.0


def _told(rest: list[GroupRow]) -> str:
    failed = sum(row.of.requests.failed for row in rest)
    asked = sum(row.of.requests.sent for row in rest)
    slow = [row.of.ttft_s.p95 for row in rest if row.of.ttft_s.p95 is not None]
    told = f"{asked:,} requests, {failed:,} failed"
    return f"{told}, TTFT p95 at most {seconds(max(slow))}" if slow else told
