"""Which moves are allowed, and where a rollback goes."""

from datetime import UTC, datetime

import pytest

from adapters_registry import moves
from adapters_registry.errors import IllegalMove, RegistryError, StaleRevision, UnknownVersion
from adapters_registry.types import HistoryEntry, VersionState

CANDIDATE, LIVE = VersionState.CANDIDATE, VersionState.LIVE
RETIRED, DELETED = VersionState.RETIRED, VersionState.DELETED


def _past(*steps: tuple[str, int]) -> list[HistoryEntry]:
    now = datetime.now(UTC)
    return [
        HistoryEntry(now, "admin", action, "acme", "support", None, to, None, False)
        for action, to in steps
    ]


def _states(past: list[HistoryEntry], *deleted: int) -> dict[int, VersionState]:
    numbers = [move.to_version for move in past if move.to_version is not None]
    states = dict.fromkeys(numbers, RETIRED)
    states[numbers[-1]] = LIVE
    return states | dict.fromkeys(deleted, DELETED)


@pytest.mark.parametrize(
    ("steps", "deleted", "target"),
    [
        ([("promote", 1), ("promote", 2)], (), 1),
        ([("promote", 1), ("promote", 2), ("promote", 3)], (), 2),
        ([("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 2)], (), 1),
        ([("promote", 1), ("promote", 2), ("rollback", 1), ("promote", 3)], (), 1),
        ([("promote", 2), ("promote", 1), ("promote", 2)], (), 1),
        ([("promote", 1), ("promote", 2), ("promote", 3)], (2,), 1),
        ([("promote", 1), ("promote", 2), ("promote", 1), ("promote", 3), ("rollback", 1)], (), 2),
    ],
)
def test_rollback_undoes_the_last_promotion_that_still_stands(
    steps: list[tuple[str, int]], deleted: tuple[int, ...], target: int
) -> None:
    past = _past(*steps)
    assert moves.rollback_target(_states(past, *deleted), past, None) == target


@pytest.mark.parametrize(
    ("steps", "deleted"),
    [
        ([("promote", 1)], ()),
        ([("promote", 1), ("promote", 2)], (1,)),
        ([("promote", 1), ("promote", 2), ("rollback", 1)], ()),
    ],
)
def test_rollback_says_when_nothing_is_left_to_go_back_to(
    steps: list[tuple[str, int]], deleted: tuple[int, ...]
) -> None:
    past = _past(*steps)
    with pytest.raises(IllegalMove, match="no version was live before"):
        moves.rollback_target(_states(past, *deleted), past, None)


def test_rollback_before_the_first_promotion() -> None:
    with pytest.raises(IllegalMove, match="no version is live yet"):
        moves.rollback_target({1: CANDIDATE}, [], None)


@pytest.mark.parametrize(
    ("to", "error", "reason"),
    [
        (1, None, ""),
        (2, IllegalMove, "live already"),
        (3, IllegalMove, "never live"),
        (4, UnknownVersion, "version 4 does not exist"),
        (5, UnknownVersion, "version 5 does not exist"),
        (0, UnknownVersion, "version 0 does not exist"),
    ],
)
def test_rollback_to_a_named_version(
    to: int, error: type[RegistryError] | None, reason: str
) -> None:
    states = {1: RETIRED, 2: LIVE, 3: CANDIDATE, 4: DELETED}
    if error is None:
        assert moves.rollback_target(states, [], to) == to
    else:
        with pytest.raises(error, match=reason):
            moves.rollback_target(states, [], to)


def test_a_revision_only_counts_when_one_is_given() -> None:
    moves.check_revision(3, None)
    moves.check_revision(3, 3)
    with pytest.raises(StaleRevision, match="at revision 3, not 2"):
        moves.check_revision(3, 2)
