"""Which moves of an adapter's live pointer are allowed. Pure: what to do, not the doing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters_registry.errors import IllegalMove, StaleRevision, UnknownVersion
from adapters_registry.types import HistoryEntry, ProofState, Verdict, VersionState

PROMOTE = "promote"
ROLLBACK = "rollback"

States = Mapping[int, VersionState]
"""Every version ever numbered, the deleted ones included."""


def check_revision(revision: int, if_match: int | None) -> None:
    """Raises StaleRevision where the caller decided on an older state of the adapter."""
    if if_match is not None and if_match != revision:
        raise StaleRevision(
            f"the adapter is at revision {revision}, not {if_match}: read it again and decide anew",
            field="if_match",
        )


def check_exists(states: States, version: int) -> None:
    """Raises UnknownVersion for a number never given, or given to a version since deleted."""
    if states.get(version, VersionState.DELETED) is VersionState.DELETED:
        raise UnknownVersion(f"version {version} does not exist", field="version")


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides on a version's promotion."""

    state: VersionState
    verdict: Verdict | None
    proof: ProofState


def check_promote(
    standings: Mapping[int, Standing], version: int, *, force: bool, require_pass: bool
) -> None:
    """Raises IllegalMove for a version that is live, rejected or inert, or was not passed.

    The last may be forced, unless the tenant's policy requires a pass.
    """
    check_exists({number: each.state for number, each in standings.items()}, version)
    standing = standings[version]
    if standing.state is VersionState.LIVE:
        raise IllegalMove(f"version {version} is live already", field="version")
    if standing.verdict is Verdict.REJECTED:
        raise IllegalMove(
            f"version {version} was rejected by its evaluation: evaluate it anew, or push a better"
            " one",
            field="version",
        )
    if standing.proof is ProofState.INERT:
        raise IllegalMove(
            f"version {version} is inert: it answers as the base model does, so there is nothing"
            " to promote",
            field="version",
        )
    if standing.verdict is Verdict.PASSED:
        return
    if require_pass:
        raise IllegalMove(
            f"version {version} has no passed evaluation, which this tenant's policy requires",
            field="version",
        )
    if not force:
        raise IllegalMove(
            f"version {version} has no passed evaluation: evaluate it, or promote it with force",
            field="force",
        )


def check_delete(states: States, version: int) -> None:
    """A live version stays: its adapter would answer nobody."""
    check_exists(states, version)
    if states[version] is VersionState.LIVE:
        raise IllegalMove(
            f"version {version} is live: promote another version first", field="version"
        )


def rollback_target(states: States, moves: Sequence[HistoryEntry], to: int | None) -> int:
    """The version to go back to: `to`, or the one that was live before.

    moves: the adapter's history, oldest first.
    Raises IllegalMove with the reason where there is none.
    """
    live = next((n for n, state in states.items() if state is VersionState.LIVE), None)
    if live is None:
        raise IllegalMove("no version is live yet, so there is nothing to go back from")
    if to is None:
        return _previous(states, moves, live)
    check_exists(states, to)
    if to == live:
        raise IllegalMove(f"version {to} is live already", field="to")
    if states[to] not in (VersionState.LIVE, VersionState.RETIRED):
        raise IllegalMove(
            f"version {to} was never live, so it is no way back: promote it instead", field="to"
        )
    return to


def _previous(states: States, moves: Sequence[HistoryEntry], live: int) -> int:
    """A rollback undoes: two in a row go back two steps, not back and forth."""
    trail: list[int] = []
    for move in moves:
        if move.to_version is None or move.action not in (PROMOTE, ROLLBACK):
            continue
        if move.action == ROLLBACK and move.to_version in trail:
            while trail[-1] != move.to_version:
                trail.pop()
        else:
            trail.append(move.to_version)
    for number in reversed(trail):
        if number != live and states[number] is not VersionState.DELETED:
            return number
    raise IllegalMove(
        f"no version was live before version {live} that still exists: name one with `to`"
    )
