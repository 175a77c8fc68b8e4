"""Which moves are allowed, and where a rollback goes."""

from datetime import UTC, datetime

import pytest

from adapters_registry import moves
from adapters_registry.errors import IllegalMove, RegistryError, StaleRevision, UnknownVersion
from adapters_registry.types import HistoryEntry, ProofState, Verdict, VersionState

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


def _promote(
    state: VersionState = CANDIDATE,
    verdict: Verdict | None = None,
    proof: ProofState = ProofState.UNPROVED,
    *,
    force: bool = False,
    require_pass: bool = False,
) -> str | None:
    """Why the promotion of version 2 beside a live version 1 is refused, and of which field."""
    standings = {
        1: moves.Standing(LIVE, Verdict.PASSED, ProofState.PROVED),
        2: moves.Standing(state, verdict, proof),
    }
    try:
        moves.check_promote(standings, 2, force=force, require_pass=require_pass)
    except IllegalMove as refused:
        return f"{refused.field}: {refused.message}"
    return None


@pytest.mark.parametrize("require_pass", [False, True])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("proof", [ProofState.UNPROVED, ProofState.PROVED])
@pytest.mark.parametrize("state", [VersionState.PASSED, RETIRED])
def test_a_passed_version_can_always_be_promoted(
    state: VersionState, proof: ProofState, force: bool, require_pass: bool
) -> None:
    assert _promote(state, Verdict.PASSED, proof, force=force, require_pass=require_pass) is None


@pytest.mark.parametrize("state", [CANDIDATE, RETIRED])
def test_what_was_not_judged_needs_force_and_a_tenant_that_lets_it(state: VersionState) -> None:
    assert _promote(state, force=True) is None
    unforced = _promote(state)
    assert unforced is not None
    assert unforced.startswith("force: version 2 has no passed evaluation: evaluate it, or")
    for force in (False, True):
        required = _promote(state, force=force, require_pass=True)
        assert required is not None
        assert required.endswith("which this tenant's policy requires")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("state", "verdict", "proof", "reason"),
    [
        (LIVE, Verdict.PASSED, ProofState.PROVED, "live already"),
        (LIVE, None, ProofState.UNPROVED, "live already"),
        (VersionState.REJECTED, Verdict.REJECTED, ProofState.PROVED, "rejected"),
        (RETIRED, Verdict.REJECTED, ProofState.PROVED, "rejected"),
        (VersionState.PASSED, Verdict.PASSED, ProofState.INERT, "inert"),
        (CANDIDATE, None, ProofState.INERT, "inert"),
    ],
)
def test_force_changes_nothing_for_what_cannot_be_live(
    state: VersionState, verdict: Verdict | None, proof: ProofState, reason: str, force: bool
) -> None:
    refused = _promote(state, verdict, proof, force=force)
    assert refused is not None
    assert refused.startswith("version: version 2 ")
    assert reason in refused


@pytest.mark.parametrize("number", [0, 2, 3])
def test_what_does_not_exist_cannot_be_promoted(number: int) -> None:
    standings = {
        1: moves.Standing(LIVE, None, ProofState.UNPROVED),
        2: moves.Standing(DELETED, Verdict.PASSED, ProofState.PROVED),
    }
    with pytest.raises(UnknownVersion, match=f"version {number} does not exist"):
        moves.check_promote(standings, number, force=True, require_pass=False)


@pytest.mark.parametrize("to", [VersionState.PASSED, VersionState.REJECTED])
def test_rollback_never_goes_to_what_was_never_live(to: VersionState) -> None:
    with pytest.raises(IllegalMove, match="never live"):
        moves.rollback_target({1: LIVE, 2: to}, [], 2)
