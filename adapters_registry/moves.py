"""Which moves of an adapter's live pointer are allowed. Pure: what to do, not the doing."""

from collections.abc import Mapping, Sequence

from adapters_registry.errors import IllegalMove, StaleRevision, UnknownVersion
from adapters_registry.types import HistoryEntry, VersionState

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


def check_promote(states: States, version: int) -> None:
    """Any version that is not deleted may go live, unless it is."""
    check_exists(states, version)
    if states[version] is VersionState.LIVE:
        raise IllegalMove(f"version {version} is live already", field="version")


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
    if states[to] is VersionState.CANDIDATE:
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
