"""What is known and thought of a version, tenants that come back, keys that end: on a database."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from adapters_registry.artifacts import FILES
from adapters_registry.errors import (
    AlreadyExists,
    IllegalMove,
    InvalidName,
    UnknownKey,
    UnknownTenant,
    UnknownVersion,
)
from adapters_registry.registry import Registry
from adapters_registry.tenants import hash_secret, parse_key
from adapters_registry.types import (
    BaseIdentity,
    DeletedTenant,
    Key,
    Lineage,
    ProofState,
    Scope,
    TenantPolicy,
    Verdict,
    VersionState,
)
from tests.adapters_for_tests import good_adapter
from tests.test_registry import (
    ADMIN,
    BASE,
    BOTH,
    INERT,
    PASSED,
    PROVED,
    REJECTED,
    SUPPORT,
    push,
)

DAY = timedelta(days=1)


@pytest.fixture
def acme(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    """A registry with the tenant acme."""
    opened = Registry.open(database_url, tmp_path / "artifacts")
    opened.create_tenant("acme", actor=ADMIN)
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good adapter."""
    return good_adapter(tmp_path / "in", BASE)


def _state(registry: Registry, number: int = 1) -> tuple[VersionState, Verdict | None]:
    version = registry.version(*SUPPORT, number).version
    assert registry.snapshot().tenants["acme"].adapters["support"].versions[number] == version
    return version.state, version.verdict


# Evaluation and proof


@pytest.mark.parametrize("evaluation", [PASSED, REJECTED])
def test_a_verdict_comes_with_the_push_or_after_it(
    acme: Registry, folder: Path, evaluation: Any
) -> None:
    expected = VersionState(evaluation.verdict), evaluation.verdict
    push(acme, folder, evaluation=evaluation)
    push(acme, folder)
    acme.evaluate(*SUPPORT, 2, evaluation, actor="key:abc", reason="nightly")
    for number in (1, 2):
        assert _state(acme, number) == expected
        assert acme.version(*SUPPORT, number).evaluation == evaluation
    newest = acme.history(*SUPPORT)[0]
    assert (newest.action, newest.from_version, newest.to_version) == (evaluation.verdict, None, 2)
    assert (newest.actor, newest.reason) == ("key:abc", "nightly")


def test_the_latest_verdict_counts(acme: Registry, folder: Path) -> None:
    push(acme, folder, evaluation=REJECTED)
    acme.evaluate(*SUPPORT, 1, PASSED, actor=ADMIN)
    assert _state(acme) == (VersionState.PASSED, Verdict.PASSED)
    assert acme.promote(*SUPPORT, 1, actor=ADMIN).live == 1


def test_a_verdict_on_what_is_or_was_live_moves_nothing(acme: Registry, folder: Path) -> None:
    for _ in range(2):
        number = push(acme, folder).number
        acme.promote(*SUPPORT, number, actor=ADMIN, force=True)
    for number in (1, 2):
        acme.evaluate(*SUPPORT, number, REJECTED, actor=ADMIN)
    assert _state(acme, 1) == (VersionState.RETIRED, Verdict.REJECTED)
    assert _state(acme, 2) == (VersionState.LIVE, Verdict.REJECTED)
    assert acme.rollback(*SUPPORT, actor=ADMIN).live == 1


def test_a_passed_version_needs_no_force(acme: Registry, folder: Path) -> None:
    push(acme, folder, evaluation=PASSED)
    push(acme, folder)
    acme.promote(*SUPPORT, 1, actor=ADMIN)
    assert not acme.history(*SUPPORT)[0].forced
    with pytest.raises(IllegalMove, match="no passed evaluation: evaluate it, or promote it with"):
        acme.promote(*SUPPORT, 2, actor=ADMIN)
    acme.promote(*SUPPORT, 2, actor=ADMIN, force=True)
    assert acme.history(*SUPPORT)[0].forced


def test_force_opens_no_way_for_what_was_rejected_or_is_inert(acme: Registry, folder: Path) -> None:
    push(acme, folder, evaluation=REJECTED)
    push(acme, folder, evaluation=PASSED)
    acme.record_proof(*SUPPORT, 2, INERT, actor=ADMIN)
    for number, reason in ((1, "rejected by its evaluation"), (2, "is inert")):
        with pytest.raises(IllegalMove, match=reason):
            acme.promote(*SUPPORT, number, actor=ADMIN, force=True)


def test_a_policy_can_require_a_pass(acme: Registry, folder: Path) -> None:
    push(acme, folder)
    acme.set_policy("acme", TenantPolicy(require_pass=True), actor=ADMIN)
    with pytest.raises(IllegalMove, match="which this tenant's policy requires"):
        acme.promote(*SUPPORT, 1, actor=ADMIN, force=True)
    acme.evaluate(*SUPPORT, 1, PASSED, actor=ADMIN)
    assert acme.promote(*SUPPORT, 1, actor=ADMIN).live == 1


def test_two_who_change_a_policy_lose_nothing_of_each_other(acme: Registry) -> None:
    acme.set_policy("acme", TenantPolicy(require_pass=True), actor=ADMIN)
    changed = acme.set_policy("acme", TenantPolicy(allow_base=False), actor=ADMIN)
    assert changed.policy == TenantPolicy(allow_base=False, require_pass=True)
    assert acme.audit()[0].detail["policy"] == {"allow_base": False, "require_pass": True}


def test_a_proof_is_kept_with_its_figures(acme: Registry, folder: Path) -> None:
    assert push(acme, folder).proof is ProofState.UNPROVED
    assert acme.version(*SUPPORT, 1).proof is None
    assert acme.record_proof(*SUPPORT, 1, INERT, actor=ADMIN).proof is ProofState.INERT
    assert acme.history(*SUPPORT)[0].reason == INERT.reason
    assert acme.record_proof(*SUPPORT, 1, PROVED, actor=ADMIN).proof is ProofState.PROVED
    assert acme.version(*SUPPORT, 1).proof == PROVED


# What a version carries


def test_a_version_carries_where_it_comes_from(acme: Registry, folder: Path) -> None:
    lineage = Lineage(
        base=BaseIdentity(quantization="awq", rope_scaling={"factor": 2.0}),
        dataset="sha256:abc",
        recipe={"lr": 1e-4, "steps": [1, 2]},
    )
    push(acme, folder, lineage=lineage, actor="key:abc", evaluation=PASSED)
    record = acme.version(*SUPPORT, 1)
    named = lineage.base.model_copy(update={"name": BASE.name})
    assert record.lineage == lineage.model_copy(update={"base": named})
    assert (record.created_by, record.evaluation) == ("key:abc", PASSED)
    assert set(record.files) == set(FILES)
    assert record.files == acme.artifacts.put(folder).files
    assert record.summary["modules"] == 4
    warned = "\n".join(record.version.warnings)
    assert "quantized as 'awq'" in warned
    assert "another RoPE scaling" in warned


def test_a_parent_must_be_a_version_of_the_same_adapter(acme: Registry, folder: Path) -> None:
    push(acme, folder)
    acme.delete_version(*SUPPORT, 1, actor=ADMIN)
    push(acme, folder, lineage=Lineage(parent=1))
    assert acme.version(*SUPPORT, 2).lineage.parent == 1
    before = acme.snapshot()
    with pytest.raises(UnknownVersion, match=r"lineage\.parent: version 3"):
        push(acme, folder, lineage=Lineage(parent=3))
    with pytest.raises(UnknownVersion):
        push(acme, folder, adapter="sales", lineage=Lineage(parent=1))
    assert acme.snapshot() == before


def test_a_snapshot_holds_no_reports(acme: Registry, folder: Path) -> None:
    report = {"word": "x" * 10}
    push(acme, folder, lineage=Lineage(recipe=report), evaluation=PASSED)
    assert "x" * 10 not in repr(acme.snapshot())


# Tenants that come back


def _delete(registry: Registry, **wishes: Any) -> DeletedTenant:
    return registry.delete_tenant("acme", actor=ADMIN, **wishes)


def test_a_restored_tenant_has_all_but_its_keys(acme: Registry, folder: Path) -> None:
    acme.set_policy("acme", TenantPolicy(allow_base=False), actor=ADMIN)
    key, _ = acme.create_key("acme", name="k", scopes=BOTH, actor=ADMIN)
    push(acme, folder, evaluation=PASSED)
    acme.promote(*SUPPORT, 1, actor=ADMIN)
    before, history = acme.snapshot().tenants["acme"], acme.history(*SUPPORT)
    deleted = _delete(acme, undo_time=DAY)
    assert deleted.purge_at == deleted.deleted_at + DAY
    assert acme.deleted_tenants() == [deleted]
    restored = acme.restore_tenant("acme", actor=ADMIN, reason="a mistake")
    assert acme.deleted_tenants() == []
    assert restored == acme.snapshot().tenants["acme"]
    assert (restored.policy, restored.created_at) == (before.policy, before.created_at)
    then, now = before.adapters["support"], restored.adapters["support"]
    assert (now.live, now.versions) == (then.live, then.versions)
    assert now.revision > then.revision
    assert acme.history(*SUPPORT) == history
    assert acme.keys("acme") == []
    assert key.id not in acme.snapshot().keys
    with pytest.raises(AlreadyExists):
        acme.restore_tenant("acme", actor=ADMIN)


def test_the_latest_deletion_of_a_name_is_undone(acme: Registry, folder: Path) -> None:
    push(acme, folder)
    first = _delete(acme)
    acme.create_tenant("acme", actor=ADMIN)
    second = _delete(acme)
    assert acme.deleted_tenants() == [second, first]
    assert acme.restore_tenant("acme", actor=ADMIN).adapters == {}
    assert acme.deleted_tenants() == [first]


def test_numbers_and_revisions_go_on_past_a_tenant_of_the_same_name(
    acme: Registry, folder: Path
) -> None:
    push(acme, folder)
    _delete(acme, undo_time=DAY)
    acme.create_tenant("acme", actor=ADMIN)
    assert [push(acme, folder).number for _ in range(3)] == [2, 3, 4]
    seen = acme.snapshot().tenants["acme"].adapters["support"].revision
    _delete(acme, undo_time=timedelta(0))
    restored = acme.restore_tenant("acme", actor=ADMIN).adapters["support"]
    assert list(restored.versions) == [1]
    assert restored.revision > seen
    assert push(acme, folder).number == 5


def test_a_purge_takes_what_can_no_longer_come_back(
    acme: Registry, folder: Path, tmp_path: Path
) -> None:
    push(acme, folder)
    push(acme, good_adapter(tmp_path / "other", BASE, seed=2), adapter="sales")
    _delete(acme, undo_time=DAY)
    acme.create_tenant("acme", actor=ADMIN)
    push(acme, good_adapter(tmp_path / "third", BASE, seed=3), adapter="sales")
    _delete(acme, undo_time=timedelta(0))
    revision = acme.revision()
    assert acme.purge_tenants(actor=ADMIN) == ["acme"]
    assert acme.revision() == revision + 1
    assert acme.purge_tenants(actor=ADMIN) == []
    assert acme.revision() == revision + 1
    assert set(acme.restore_tenant("acme", actor=ADMIN).adapters) == {"support", "sales"}
    with pytest.raises(UnknownTenant):
        acme.restore_tenant("globex", actor=ADMIN)


def test_a_purge_is_one_change_for_each_tenant(acme: Registry) -> None:
    for name in ("one", "two"):
        acme.create_tenant(name, actor=ADMIN)
        acme.delete_tenant(name, actor=ADMIN, undo_time=timedelta(0))
    revision = acme.revision()
    assert acme.purge_tenants(actor="gateway") == ["one", "two"]
    assert acme.revision() == revision + 2 == len(acme.audit(limit=1000))
    assert [(e.action, e.target, e.actor) for e in acme.audit(limit=2)] == [
        ("tenant.purge", "two", "gateway"),
        ("tenant.purge", "one", "gateway"),
    ]


# Keys


def _key(registry: Registry, **wishes: Any) -> tuple[Key, str]:
    return registry.create_key("acme", name="k", scopes=BOTH, actor=ADMIN, **wishes)


def _rotate(registry: Registry, key: Key, overlap: timedelta, **wishes: Any) -> tuple[Key, str]:
    return registry.rotate_key("acme", key.id, actor=ADMIN, overlap=overlap, **wishes)


def test_a_rotated_key_goes_on_for_the_overlap(acme: Registry) -> None:
    old, _ = acme.create_key("acme", name="ci", scopes=frozenset({Scope.INFERENCE}), actor=ADMIN)
    new, text = _rotate(acme, old, DAY, reason="yearly")
    assert (new.name, new.scopes, new.expires_at) == (old.name, old.scopes, None)
    parsed = parse_key(text)
    assert parsed is not None
    assert (parsed[0], hash_secret(parsed[1])) == (new.id, new.secret_sha256)
    kept = {key.id: key for key in acme.keys("acme")}
    assert kept[new.id] == new
    assert kept[old.id].secret_sha256 == old.secret_sha256
    assert kept[old.id].expires_at == new.created_at + DAY
    assert acme.snapshot().keys == kept
    newest = acme.audit()[0]
    assert (newest.action, newest.target) == ("key.rotate", old.id)
    assert (newest.detail["to"], newest.detail["reason"]) == (new.id, "yearly")


def test_a_rotation_never_lengthens_a_keys_life(acme: Registry) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    old, _ = _key(acme, expires_at=end)
    _rotate(acme, old, DAY)
    assert {key.id: key for key in acme.keys("acme")}[old.id].expires_at == end


def test_an_ended_key_cannot_be_rotated(acme: Registry) -> None:
    old, _ = _key(acme)
    _rotate(acme, old, timedelta(0))
    before = acme.keys("acme")
    with pytest.raises(UnknownKey):
        _rotate(acme, old, DAY)
    assert acme.keys("acme") == before


def test_another_tenants_key_cannot_be_rotated(acme: Registry) -> None:
    acme.create_tenant("globex", actor=ADMIN)
    theirs, _ = acme.create_key("globex", name="k", scopes=BOTH, actor=ADMIN)
    with pytest.raises(UnknownKey):
        _rotate(acme, theirs, DAY)
    assert acme.keys("globex") == [theirs]


def test_an_end_is_kept_in_utc(acme: Registry) -> None:
    end = (datetime.now(UTC) + DAY).astimezone(timezone(timedelta(hours=5)))
    key, _ = _key(acme, expires_at=end)
    assert key.expires_at == end
    assert key.expires_at.tzinfo is UTC
    assert acme.keys("acme") == [key]


@pytest.mark.parametrize(
    "end",
    [
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2999, 1, 1),  # noqa: DTZ001
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    ],
)
def test_an_end_that_cannot_be_is_refused(acme: Registry, end: datetime) -> None:
    with pytest.raises(InvalidName, match="expires_at: must be a time to come"):
        _key(acme, expires_at=end)
    assert acme.keys("acme") == []


def test_the_last_use_only_moves_forward_and_is_no_change(acme: Registry) -> None:
    one, _ = _key(acme)
    two, _ = _key(acme)
    revision, audit = acme.revision(), acme.audit()
    now = datetime.now(UTC)
    acme.note_key_use({one.id: now, "no-such-key": now})
    acme.note_key_use({one.id: now - DAY, two.id: now - DAY})
    acme.note_key_use({})
    used = {key.id: key.last_used_at for key in acme.keys("acme")}
    assert used == {one.id: now, two.id: now - DAY}
    assert (acme.revision(), acme.audit()) == (revision, audit)


# Reasons


REASONED: list[Callable[[Registry, Path, str], object]] = [
    lambda r, _, why: r.create_tenant("globex", actor=ADMIN, reason=why),
    lambda r, _, why: r.set_policy("acme", TenantPolicy(), actor=ADMIN, reason=why),
    lambda r, _, why: r.delete_tenant("acme", actor=ADMIN, reason=why),
    lambda r, _, why: r.restore_tenant("gone", actor=ADMIN, reason=why),
    lambda r, _, why: _key(r, reason=why),
    lambda r, _, why: _rotate(r, r.keys("acme")[0], DAY, reason=why),
    lambda r, _, why: r.revoke_key("acme", r.keys("acme")[0].id, actor=ADMIN, reason=why),
    lambda r, f, why: push(r, f, reason=why),
    lambda r, _, why: r.evaluate(*SUPPORT, 3, PASSED, actor=ADMIN, reason=why),
    lambda r, _, why: r.promote(*SUPPORT, 3, actor=ADMIN, force=True, reason=why),
    lambda r, _, why: r.rollback(*SUPPORT, actor=ADMIN, reason=why),
    lambda r, _, why: r.delete_version(*SUPPORT, 3, actor=ADMIN, reason=why),
]


@pytest.mark.parametrize("call", REASONED)
def test_a_reason_can_be_given_everywhere(
    acme: Registry, folder: Path, call: Callable[[Registry, Path, str], object]
) -> None:
    acme.create_tenant("gone", actor=ADMIN)
    acme.delete_tenant("gone", actor=ADMIN)
    _key(acme)
    for _ in range(3):
        push(acme, folder)
    for number in (1, 2):
        acme.promote(*SUPPORT, number, actor=ADMIN, force=True)
    before, moves = acme.audit(), acme.history(*SUPPORT)
    for bad in ("x" * 2001, "a\0b", "\x1b[31m", "\ud800"):
        with pytest.raises(InvalidName, match="reason: must be at most 2000 printable"):
            call(acme, folder, bad)
    assert (acme.audit(), acme.history(*SUPPORT)) == (before, moves)
    call(acme, folder, "because\nof <this>")
    newest, *rest = acme.audit()
    assert rest == before
    assert newest.detail["reason"] == "because\nof <this>"
    if newest.action.startswith("version."):
        assert acme.history(*SUPPORT)[0].reason == "because\nof <this>"
