"""The registry on a real database: every change whole, in order, on record."""

import itertools
import multiprocessing
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from adapters_registry.artifacts import FILES, WEIGHTS_FILE
from adapters_registry.base_model import BaseModelSpec
from adapters_registry.database import Database
from adapters_registry.errors import (
    AlreadyExists,
    DatabaseUnavailable,
    IllegalMove,
    InvalidAdapter,
    InvalidName,
    InvalidProfile,
    RegistryError,
    StaleRevision,
    StorageError,
    UnknownAdapter,
    UnknownKey,
    UnknownTenant,
    UnknownVersion,
)
from adapters_registry.registry import Registry
from adapters_registry.tables import metadata
from adapters_registry.tenants import parse_key, secret_matches
from adapters_registry.types import (
    Adapter,
    Evaluation,
    Key,
    Lineage,
    Proof,
    ProofState,
    SamplingDefaults,
    Scope,
    ServingProfile,
    TenantPolicy,
    Verdict,
    Version,
    VersionState,
)
from tests.adapters_for_tests import good_adapter, tiny_base

ADMIN = "admin"
BOTH = frozenset(Scope)
BASE = tiny_base()
SUPPORT = ("acme", "support")
DEADLINE_S = 120
BEYOND_ALL_CALENDARS = datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))
PASSED = Evaluation(verdict=Verdict.PASSED, report={"accuracy": 0.9})
REJECTED = Evaluation(verdict=Verdict.REJECTED)
PROVED = Proof(state=ProofState.PROVED, difference=0.4, noise=0.001, tokens=64, base="tiny")
INERT = PROVED.model_copy(update={"state": ProofState.INERT, "reason": "lora_B is zero"})


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    opened = Registry.open(database_url, tmp_path / "artifacts")
    yield opened
    opened.close()


@pytest.fixture
def acme(registry: Registry) -> Registry:
    """A registry with the tenant acme."""
    registry.create_tenant("acme", actor=ADMIN)
    return registry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good adapter."""
    return good_adapter(tmp_path / "in", BASE)


def push(
    registry: Registry,
    folder: Path,
    *,
    tenant: str = "acme",
    adapter: str = "support",
    profile: ServingProfile | None = None,
    base: BaseModelSpec = BASE,
    actor: str = ADMIN,
    lineage: Lineage | None = None,
    evaluation: Evaluation | None = None,
    reason: str | None = None,
) -> Version:
    return registry.push(
        tenant,
        adapter,
        folder,
        base=base,
        max_rank=16,
        profile=profile or ServingProfile(),
        actor=actor,
        lineage=lineage,
        evaluation=evaluation,
        reason=reason,
    )


def _adapter(registry: Registry, tenant: str = "acme", name: str = "support") -> Adapter:
    return registry.snapshot().tenants[tenant].adapters[name]


def _states(registry: Registry) -> dict[int, str]:
    return {n: str(version.state) for n, version in _adapter(registry).versions.items()}


# Opening


def test_a_new_registry_is_empty_and_private(tmp_path: Path) -> None:
    registry = Registry.open(f"sqlite:///{tmp_path}/data/registry.db", tmp_path / "artifacts")
    assert registry.snapshot().tenants == {}
    assert registry.revision() == 0
    for folder in (tmp_path / "data", tmp_path / "artifacts"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list((tmp_path / "data").iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    registry.close()


def test_sqlite_is_set_to_lose_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/registry.db")
    with database.read() as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    database.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 15000,
    }


def test_what_was_written_is_there_after_opening_again(
    database_url: str, acme: Registry, folder: Path, tmp_path: Path
) -> None:
    pushed = push(acme, folder)
    again = Registry.open(database_url, tmp_path / "artifacts")
    assert again.snapshot() == acme.snapshot()
    assert _adapter(again).versions == {1: pushed}
    again.close()


def test_the_migrations_make_the_tables_of_the_code(registry: Registry) -> None:
    with registry._database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_processes_that_open_a_new_registry_at_once_all_succeed(
    database_url: str, tmp_path: Path
) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        opened = pool.starmap_async(_open_only, [(database_url, tmp_path / "artifacts")] * 3)
        assert opened.get(DEADLINE_S) == [0] * 3


def _open_only(database_url: str, artifacts_dir: Path) -> int:
    registry = Registry.open(database_url, artifacts_dir)
    revision = registry.revision()
    registry.close()
    return revision


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("registry.db", "cannot be read"),
        ("mysql://host/db", "mysql is not supported"),
        ("postgresql://host/db", "postgresql is not supported: use sqlite:///FILE or postgresql"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////proc/no/such/registry.db", "cannot be opened"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused(url: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=reason):
        Registry.open(url, tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageError, match="SQLITE_NOTADB"):
        Registry.open(f"sqlite:///{tmp_path}/registry.db", tmp_path)


def test_a_database_of_a_newer_release_is_refused(
    database_url: str, registry: Registry, tmp_path: Path
) -> None:
    with registry._database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="newer release"):
        Registry.open(database_url, tmp_path / "artifacts")


# Every change is on record


CHANGES: list[tuple[str, str, Callable[[Registry, Path], object]]] = [
    ("tenant.create", "globex", lambda r, _: r.create_tenant("globex", actor=ADMIN)),
    ("tenant.policy", "acme", lambda r, _: r.set_policy("acme", TenantPolicy(), actor=ADMIN)),
    ("key.create", "acme", lambda r, _: r.create_key("acme", name="k", scopes=BOTH, actor=ADMIN)),
    ("key.rotate", "acme", lambda r, _: _rotate(r)),
    ("key.revoke", "acme", lambda r, _: r.revoke_key("acme", _some_key(r), actor=ADMIN)),
    ("version.push", "acme", push),
    ("version.evaluate", "acme", lambda r, _: r.evaluate(*SUPPORT, 3, REJECTED, actor=ADMIN)),
    ("version.prove", "acme", lambda r, _: r.record_proof(*SUPPORT, 3, PROVED, actor=ADMIN)),
    ("version.promote", "acme", lambda r, _: r.promote(*SUPPORT, 3, actor=ADMIN, force=True)),
    ("version.rollback", "acme", lambda r, _: r.rollback(*SUPPORT, actor=ADMIN)),
    ("version.delete", "acme", lambda r, _: r.delete_version(*SUPPORT, 3, actor=ADMIN)),
    ("tenant.delete", "acme", lambda r, _: r.delete_tenant("acme", actor=ADMIN)),
    ("tenant.restore", "gone", lambda r, _: r.restore_tenant("gone", actor=ADMIN)),
    ("tenant.purge", "due", lambda r, _: r.purge_tenants(actor=ADMIN)),
]


@pytest.fixture
def busy(acme: Registry, folder: Path) -> Registry:
    """A registry in which every change is possible: versions 1 retired, 2 live, 3 candidate.

    The tenant `gone` was deleted and can be restored, `due` is to be purged.
    """
    _fill(acme, folder)
    return acme


@pytest.fixture(scope="module")
def unchanged(
    shared_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Registry, Path]]:
    """The same with its artifacts' folder, for calls that are refused."""
    root = tmp_path_factory.mktemp("unchanged")
    registry = Registry.open(shared_database_url, root / "artifacts")
    registry.create_tenant("acme", actor=ADMIN)
    _fill(registry, good_adapter(root / "in", BASE))
    yield registry, root / "artifacts"
    registry.close()


def _fill(acme: Registry, folder: Path) -> None:
    for name, undo_time in (("gone", timedelta(days=1)), ("due", timedelta(0))):
        acme.create_tenant(name, actor=ADMIN)
        acme.delete_tenant(name, actor=ADMIN, undo_time=undo_time)
    acme.create_key("acme", name="k", scopes=BOTH, actor=ADMIN)
    for _ in range(3):
        push(acme, folder)
    acme.promote("acme", "support", 1, actor=ADMIN, force=True)
    acme.promote("acme", "support", 2, actor=ADMIN, force=True)


def _some_key(registry: Registry) -> str:
    return next(iter(registry.snapshot().keys))


def _rotate(registry: Registry, **wishes: Any) -> tuple[Key, str]:
    overlap = wishes.pop("overlap", timedelta(hours=1))
    return registry.rotate_key("acme", _some_key(registry), actor=ADMIN, overlap=overlap, **wishes)


@pytest.mark.parametrize(
    ("action", "tenant", "change"), CHANGES, ids=[name for name, *_ in CHANGES]
)
def test_a_change_takes_one_revision_and_leaves_one_audit_row(
    action: str,
    tenant: str,
    change: Callable[[Registry, Path], object],
    busy: Registry,
    folder: Path,
) -> None:
    revision, before = busy.revision(), busy.audit()
    change(busy, folder)
    assert busy.revision() == revision + 1
    newest, *rest = busy.audit()
    assert rest == before
    assert (newest.action, newest.actor, newest.tenant) == (action, ADMIN, tenant)


MOVES = {
    "version.push": "push",
    "version.evaluate": "rejected",
    "version.promote": "promote",
    "version.rollback": "rollback",
    "version.delete": "delete",
}


@pytest.mark.parametrize("action", MOVES)
def test_a_move_takes_one_revision_of_the_adapter_and_leaves_one_history_row(
    action: str, busy: Registry, folder: Path
) -> None:
    before, revision = busy.history("acme", "support"), _adapter(busy).revision
    next(change for name, _, change in CHANGES if name == action)(busy, folder)
    newest, *rest = busy.history("acme", "support")
    assert rest == before
    assert newest.action == MOVES[action]
    # A proof is nobody's decision.
    assert _adapter(busy).revision == revision + (action != "version.prove")


def test_a_proof_leaves_a_history_row_and_the_adapters_revision_as_it_is(busy: Registry) -> None:
    before, revision = busy.history("acme", "support"), _adapter(busy).revision
    busy.record_proof("acme", "support", 3, PROVED, actor=ADMIN)
    newest, *rest = busy.history("acme", "support")
    assert rest == before
    assert (newest.action, newest.to_version) == ("proved", 3)
    assert _adapter(busy).revision == revision


REFUSED: list[tuple[type[RegistryError], Callable[[Registry, Path], object]]] = [
    (AlreadyExists, lambda r, _: r.create_tenant("acme", actor=ADMIN)),
    (InvalidName, lambda r, _: r.create_tenant("Acme", actor=ADMIN)),
    (UnknownTenant, lambda r, _: r.delete_tenant("globex", actor=ADMIN)),
    (UnknownTenant, lambda r, _: r.set_policy("globex", TenantPolicy(), actor=ADMIN)),
    (UnknownTenant, lambda r, _: r.create_key("globex", name="k", scopes=BOTH, actor=ADMIN)),
    (InvalidName, lambda r, _: r.create_key("acme", name="", scopes=BOTH, actor=ADMIN)),
    (InvalidName, lambda r, _: r.create_key("acme", name="a\0", scopes=BOTH, actor=ADMIN)),
    (InvalidName, lambda r, _: r.create_key("acme", name="k", scopes=frozenset(), actor=ADMIN)),
    (UnknownKey, lambda r, _: r.revoke_key("acme", "0" * 16, actor=ADMIN)),
    (UnknownTenant, lambda r, _: r.revoke_key("globex", _some_key(r), actor=ADMIN)),
    (UnknownTenant, lambda r, f: push(r, f, tenant="globex")),
    (InvalidName, lambda r, f: push(r, f, adapter="a/b")),
    (InvalidProfile, lambda r, f: push(r, f, profile=ServingProfile(stop=("",)))),
    (InvalidAdapter, lambda r, f: push(r, f.parent)),
    (UnknownTenant, lambda r, _: r.promote("globex", "support", 1, actor=ADMIN)),
    (UnknownAdapter, lambda r, _: r.promote("acme", "sales", 1, actor=ADMIN)),
    (UnknownVersion, lambda r, _: r.promote("acme", "support", 4, actor=ADMIN)),
    (IllegalMove, lambda r, _: r.promote("acme", "support", 2, actor=ADMIN, force=True)),
    (StaleRevision, lambda r, _: r.promote("acme", "support", 3, actor=ADMIN, if_match=1)),
    (InvalidName, lambda r, _: r.promote("acme", "support", 3, actor=ADMIN, reason="x" * 2001)),
    (UnknownAdapter, lambda r, _: r.rollback("acme", "sales", actor=ADMIN)),
    (UnknownVersion, lambda r, _: r.rollback("acme", "support", to=4, actor=ADMIN)),
    (IllegalMove, lambda r, _: r.rollback("acme", "support", to=3, actor=ADMIN)),
    (StaleRevision, lambda r, _: r.rollback("acme", "support", actor=ADMIN, if_match=1)),
    (IllegalMove, lambda r, _: r.delete_version("acme", "support", 2, actor=ADMIN)),
    (UnknownVersion, lambda r, _: r.delete_version("acme", "support", 4, actor=ADMIN)),
    (UnknownAdapter, lambda r, _: r.history("acme", "sales")),
    (UnknownTenant, lambda r, _: r.history("acme' OR '1'='1", "support")),
    (IllegalMove, lambda r, _: r.promote("acme", "support", 3, actor=ADMIN)),
    (UnknownVersion, lambda r, _: r.evaluate(*SUPPORT, 4, PASSED, actor=ADMIN)),
    (StaleRevision, lambda r, _: r.evaluate(*SUPPORT, 3, PASSED, actor=ADMIN, if_match=1)),
    (UnknownVersion, lambda r, _: r.record_proof(*SUPPORT, 4, PROVED, actor=ADMIN)),
    (UnknownAdapter, lambda r, _: r.version("acme", "sales", 1)),
    (UnknownVersion, lambda r, _: r.version(*SUPPORT, 4)),
    (UnknownTenant, lambda r, _: r.keys("globex")),
    (AlreadyExists, lambda r, _: r.restore_tenant("acme", actor=ADMIN)),
    (UnknownTenant, lambda r, _: r.restore_tenant("globex", actor=ADMIN)),
    (UnknownTenant, lambda r, _: r.restore_tenant("due", actor=ADMIN)),
    (UnknownTenant, lambda r, _: r.delete_tenant("gone", actor=ADMIN)),
    (InvalidName, lambda r, _: _rotate(r, expires_at=datetime(2020, 1, 1, tzinfo=UTC))),
    (InvalidName, lambda r, _: _rotate(r, expires_at=datetime(2999, 1, 1))),  # noqa: DTZ001
    (InvalidName, lambda r, _: _rotate(r, expires_at=BEYOND_ALL_CALENDARS)),
    (UnknownKey, lambda r, _: r.rotate_key("acme", "0" * 16, actor=ADMIN, overlap=timedelta(0))),
]


@pytest.mark.parametrize(("error", "call"), REFUSED)
def test_a_refused_call_changes_nothing(
    error: type[RegistryError],
    call: Callable[[Registry, Path], object],
    unchanged: tuple[Registry, Path],
    folder: Path,
) -> None:
    busy, artifacts = unchanged
    before = busy.snapshot(), busy.audit(), busy.history("acme", "support")
    stored = set(artifacts.rglob("*"))
    with pytest.raises(error) as refused:
        call(busy, folder)
    assert refused.value.message
    assert (busy.snapshot(), busy.audit(), busy.history("acme", "support")) == before
    assert set(artifacts.rglob("*")) == stored


def test_the_audit_is_read_page_by_page(registry: Registry) -> None:
    for number in range(5):
        registry.create_tenant(f"t{number}", actor="key:abc")
    first = registry.audit(limit=2)
    second = registry.audit(limit=2, before=first[-1].id)
    assert [entry.target for entry in first + second] == ["t4", "t3", "t2", "t1"]
    assert {entry.actor for entry in first} == {"key:abc"}


# Tenants and keys


@pytest.mark.parametrize("name", ["a", "0", "acme-2", "a" * 63])
def test_good_names(name: str, registry: Registry) -> None:
    assert registry.create_tenant(name, actor=ADMIN).name == name


@pytest.mark.parametrize("name", ["", "-a", "A", "a" * 64, "a_b", "a.b", "../a", "a\n", "é", "a b"])
def test_bad_names(name: str, registry: Registry) -> None:
    with pytest.raises(InvalidName, match=r"name: a tenant's name must match") as refused:
        registry.create_tenant(name, actor=ADMIN)
    assert refused.value.field == "name"


def test_a_policy_is_kept(acme: Registry) -> None:
    assert acme.snapshot().tenants["acme"].policy.allow_base
    assert not acme.set_policy(
        "acme", TenantPolicy(allow_base=False), actor=ADMIN
    ).policy.allow_base
    assert not acme.snapshot().tenants["acme"].policy.allow_base


def test_a_key_is_shown_once_and_only_its_hash_is_kept(acme: Registry, tmp_path: Path) -> None:
    key, shown = acme.create_key("acme", name="laptop", scopes=BOTH, actor=ADMIN)
    parsed = parse_key(shown)
    assert parsed is not None
    assert acme.snapshot().keys == {parsed[0]: key}
    assert secret_matches(key, parsed[1])
    acme.close()
    for file in (tmp_path / "data").glob("*"):
        assert parsed[1].encode() not in file.read_bytes()


def test_a_revoked_key_is_gone_for_good(acme: Registry) -> None:
    key, _ = acme.create_key("acme", name="k", scopes=BOTH, actor=ADMIN)
    acme.revoke_key("acme", key.id, actor=ADMIN)
    assert acme.snapshot().keys == {}
    with pytest.raises(UnknownKey):
        acme.revoke_key("acme", key.id, actor=ADMIN)


def test_another_tenants_key_looks_like_a_missing_one(acme: Registry) -> None:
    acme.create_tenant("globex", actor=ADMIN)
    key, _ = acme.create_key("globex", name="k", scopes=BOTH, actor=ADMIN)
    with pytest.raises(UnknownKey) as others:
        acme.revoke_key("acme", key.id, actor=ADMIN)
    with pytest.raises(UnknownKey) as missing:
        acme.revoke_key("acme", "f" * 16, actor=ADMIN)
    assert others.value.message == missing.value.message
    assert key.id in acme.snapshot().keys


def test_a_deleted_tenant_looks_like_a_missing_one(busy: Registry, folder: Path) -> None:
    key = _some_key(busy)
    busy.delete_tenant("acme", actor=ADMIN)
    assert busy.snapshot().tenants == {}
    assert busy.snapshot().keys == {}
    calls: list[Callable[[str], object]] = [
        lambda name: busy.delete_tenant(name, actor=ADMIN),
        lambda name: busy.set_policy(name, TenantPolicy(), actor=ADMIN),
        lambda name: busy.create_key(name, name="k", scopes=BOTH, actor=ADMIN),
        lambda name: busy.revoke_key(name, key, actor=ADMIN),
        lambda name: push(busy, folder, tenant=name),
        lambda name: busy.promote(name, "support", 1, actor=ADMIN, force=True),
        lambda name: busy.rollback(name, "support", actor=ADMIN),
        lambda name: busy.delete_version(name, "support", 1, actor=ADMIN),
        lambda name: busy.history(name, "support"),
        lambda name: busy.version(name, "support", 1),
        busy.keys,
        lambda name: busy.evaluate(name, "support", 1, PASSED, actor=ADMIN),
        lambda name: busy.record_proof(name, "support", 1, PROVED, actor=ADMIN),
        lambda name: busy.rotate_key(name, key, actor=ADMIN, overlap=timedelta(0)),
    ]
    for call in calls:
        messages = set()
        for name in ("acme", "never-was"):
            with pytest.raises(UnknownTenant) as unknown:
                call(name)
            messages.add(unknown.value.message)
        assert len(messages) == 1


def test_a_tenant_made_anew_has_nothing_of_the_old_one(busy: Registry, folder: Path) -> None:
    busy.set_policy("acme", TenantPolicy(allow_base=False), actor=ADMIN)
    old_revision = _adapter(busy).revision
    busy.delete_tenant("acme", actor=ADMIN)
    made = busy.create_tenant("acme", actor=ADMIN)
    assert made.policy.allow_base
    assert made.adapters == {}
    assert busy.snapshot().keys == {}
    with pytest.raises(UnknownAdapter):
        busy.history("acme", "support")
    assert push(busy, folder).number == 4
    assert push(busy, folder, adapter="sales").number == 1
    assert _states(busy) == {4: "candidate"}
    assert _adapter(busy).revision > old_revision
    assert [entry.to_version for entry in busy.history("acme", "support")] == [4]
    with pytest.raises(UnknownVersion):
        busy.promote("acme", "support", 1, actor=ADMIN, force=True)


# Versions


def test_a_pushed_version_is_a_candidate_that_carries_all_that_is_known(
    acme: Registry, tmp_path: Path
) -> None:
    profile = ServingProfile(
        system_prompt="Be \0 brief.",
        sampling=SamplingDefaults(temperature=0.5, max_tokens=64),
        stop=("END",),
        chat_template="{{ messages }}",
    )
    source = good_adapter(tmp_path / "in", BASE, base_model_name_or_path="other/model")
    version = push(acme, source, profile=profile)
    assert (version.number, version.state, version.rank) == (1, VersionState.CANDIDATE, 4)
    assert version.profile == profile
    assert version.path == acme.artifacts.verify(version.digest)
    assert version.size_bytes == sum((source / name).stat().st_size for name in FILES)
    assert any("trained on 'model'" in warning for warning in version.warnings)
    assert version.engine_name == f"acme/support@1:{version.digest[:12]}"
    assert _adapter(acme).versions == {1: version}
    assert _adapter(acme).live is None


def test_the_same_content_is_a_new_version_and_stored_once(acme: Registry, folder: Path) -> None:
    first, second = push(acme, folder), push(acme, folder)
    assert (first.number, second.number) == (1, 2)
    assert first.path == second.path
    assert first.engine_name != second.engine_name


def test_adapters_of_one_name_are_numbered_by_tenant(acme: Registry, folder: Path) -> None:
    acme.create_tenant("globex", actor=ADMIN)
    assert push(acme, folder).number == 1
    assert push(acme, folder, tenant="globex").number == 1
    assert set(acme.snapshot().tenants["globex"].adapters) == {"support"}


def test_a_refused_adapter_is_not_stored(acme: Registry, folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS_FILE).write_bytes(b"\x80\x04pickle")
    with pytest.raises(InvalidAdapter, match="pickle"):
        push(acme, folder)
    assert acme.snapshot().tenants["acme"].adapters == {}
    assert [path.name for path in (tmp_path / "artifacts").rglob("*")] == ["tmp"]


def test_promotion_retires_the_version_that_was_live(acme: Registry, folder: Path) -> None:
    push(acme, folder)
    push(acme, folder)
    assert acme.promote("acme", "support", 1, actor=ADMIN, force=True).live == 1
    adapter = acme.promote("acme", "support", 2, actor="key:abc", reason="better", force=True)
    assert adapter.live == 2
    assert adapter == _adapter(acme)
    assert _states(acme) == {1: "retired", 2: "live"}
    newest = acme.history("acme", "support")[0]
    assert (newest.from_version, newest.to_version) == (1, 2)
    assert (newest.actor, newest.reason, newest.forced) == ("key:abc", "better", True)
    assert acme.audit()[0].detail == {"forced": True, "reason": "better"}


def test_promoting_the_live_version_says_so(acme: Registry, folder: Path) -> None:
    push(acme, folder)
    acme.promote("acme", "support", 1, actor=ADMIN, force=True)
    with pytest.raises(IllegalMove, match="version 1 is live already"):
        acme.promote("acme", "support", 1, actor=ADMIN, force=True)


def test_only_the_first_of_two_that_saw_the_same_revision_wins(busy: Registry) -> None:
    seen = _adapter(busy).revision
    busy.promote("acme", "support", 3, actor=ADMIN, if_match=seen, force=True)
    with pytest.raises(StaleRevision, match=f"at revision {seen + 1}, not {seen}"):
        busy.promote("acme", "support", 1, actor=ADMIN, if_match=seen, force=True)
    assert _adapter(busy).live == 3


def test_rollbacks_go_back_step_by_step(busy: Registry) -> None:
    busy.promote("acme", "support", 3, actor=ADMIN, force=True)
    assert busy.rollback("acme", "support", actor=ADMIN, reason="worse").live == 2
    assert busy.rollback("acme", "support", actor=ADMIN).live == 1
    with pytest.raises(IllegalMove, match="no version was live before version 1"):
        busy.rollback("acme", "support", actor=ADMIN)
    assert busy.rollback("acme", "support", to=3, actor=ADMIN).live == 3
    assert _states(busy) == {1: "retired", 2: "retired", 3: "live"}


def test_a_rollback_passes_over_what_was_deleted(busy: Registry) -> None:
    busy.promote("acme", "support", 3, actor=ADMIN, force=True)
    busy.delete_version("acme", "support", 2, actor=ADMIN)
    assert busy.rollback("acme", "support", actor=ADMIN).live == 1


def test_a_deleted_versions_number_is_never_given_again(busy: Registry, folder: Path) -> None:
    busy.delete_version("acme", "support", 3, actor=ADMIN)
    assert _states(busy) == {1: "retired", 2: "live"}
    assert push(busy, folder).number == 4
    with pytest.raises(UnknownVersion, match="version 3 does not exist"):
        busy.promote("acme", "support", 3, actor=ADMIN, force=True)


def test_deleting_leaves_the_files_to_the_garbage_collection(acme: Registry, folder: Path) -> None:
    version = push(acme, folder)
    acme.delete_version("acme", "support", 1, actor=ADMIN)
    assert acme.artifacts.verify(version.digest) == version.path


# Many at once


def _push_and_promote(registry: Registry, folder: Path, times: int) -> list[int]:
    numbers = []
    for _ in range(times):
        number = push(registry, folder).number
        registry.promote("acme", "support", number, actor=ADMIN, force=True)
        numbers.append(number)
    return numbers


def _check_serial(registry: Registry, pushes: int) -> None:
    """Every promotion started where the one before it ended, and nothing was lost."""
    history = registry.history("acme", "support")[::-1]
    assert [e.to_version for e in history if e.action == "push"] == list(range(1, pushes + 1))
    promoted = [entry for entry in history if entry.action == "promote"]
    assert len(promoted) == pushes
    ends = [None, *(entry.to_version for entry in promoted)]
    assert [entry.from_version for entry in promoted] == ends[:-1]
    adapter = _adapter(registry)
    assert adapter.live == ends[-1]
    assert adapter.revision == 2 * pushes
    live = [n for n, version in adapter.versions.items() if version.state is VersionState.LIVE]
    assert live == [adapter.live]
    assert registry.revision() == 1 + 2 * pushes == len(registry.audit(limit=1000))


def test_threads_push_and_promote_in_one_serial_history(acme: Registry, folder: Path) -> None:
    numbers: list[int] = []
    threads = [
        threading.Thread(target=lambda: numbers.extend(_push_and_promote(acme, folder, 5)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sorted(numbers) == list(range(1, 31))
    _check_serial(acme, 30)


def _in_a_process(database_url: str, artifacts_dir: Path, folder: Path, times: int) -> list[int]:
    registry = Registry.open(database_url, artifacts_dir)
    numbers = _push_and_promote(registry, folder, times)
    registry.close()
    return numbers


def test_processes_push_and_promote_in_one_serial_history(
    database_url: str, acme: Registry, folder: Path, tmp_path: Path
) -> None:
    work = (database_url, tmp_path / "artifacts", folder, 5)
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        numbers = pool.starmap_async(_in_a_process, [work] * 3).get(DEADLINE_S)
    assert sorted(itertools.chain(*numbers)) == list(range(1, 16))
    _check_serial(acme, 15)


def test_a_snapshot_is_of_one_moment(acme: Registry, folder: Path) -> None:
    push(acme, folder)
    push(acme, folder)
    acme.promote("acme", "support", 1, actor=ADMIN, force=True)
    done = threading.Event()

    def flip() -> None:
        for number in (2, 1) * 15:
            acme.promote("acme", "support", number, actor=ADMIN, force=True)
        done.set()

    writer = threading.Thread(target=flip)
    writer.start()
    snapshots = []
    while not done.is_set():
        snapshots.append(acme.snapshot())
    writer.join()
    first = acme.snapshot().revision - acme.snapshot().tenants["acme"].adapters["support"].revision
    for snapshot in snapshots:
        adapter = snapshot.tenants["acme"].adapters["support"]
        assert snapshot.revision == adapter.revision + first
        assert adapter.live is not None
        assert adapter.versions[adapter.live].state is VersionState.LIVE


# Faults


_WRITES_UNTIL_KILLED = """
import sys
from pathlib import Path
from adapters_registry.registry import Registry
from tests.test_registry import push

registry = Registry.open(sys.argv[1], Path(sys.argv[2]))
while True:
    number = push(registry, Path(sys.argv[3])).number
    registry.promote("acme", "support", number, actor="admin", force=True)
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_acknowledged(
    database_url: str, acme: Registry, folder: Path, tmp_path: Path
) -> None:
    arguments = [database_url, str(tmp_path / "artifacts"), str(folder)]
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES_UNTIL_KILLED, *arguments],
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(10)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout if line.endswith("\n")]
    adapter = _adapter(acme)
    assert set(acknowledged) <= set(adapter.versions)
    assert adapter.live in (acknowledged[-1], acknowledged[-1] + 1)
    assert list(adapter.versions) == list(range(1, len(adapter.versions) + 1))
    assert acme.revision() == len(acme.audit(limit=1000))
    assert push(acme, folder).number == len(adapter.versions) + 1


def test_a_locked_database_is_unavailable_to_writers_and_open_to_readers(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    Registry.open(f"sqlite:///{file}", tmp_path / "artifacts").close()
    impatient = Database(f"sqlite:///{file}", busy_timeout_s=0.05)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="try again"), impatient.write():
        pass
    with impatient.read() as connection:
        assert connection.execute(text("SELECT revision FROM registry_meta")).scalar_one() == 0
    other.execute("ROLLBACK")
    other.close()
    with impatient.write() as connection:
        connection.execute(text("UPDATE registry_meta SET revision = 1"))
    impatient.close()


def test_an_error_names_no_parameters_and_no_path(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/registry.db")
    with (
        pytest.raises(Exception, match="no such table") as failed,
        database.read() as connection,
    ):
        connection.execute(text("SELECT :secret FROM nowhere"), {"secret": "hunter2"})
    database.close()
    assert not re.search(f"hunter2|{tmp_path}", str(failed.value))


_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from adapters_registry.errors import StorageError
from adapters_registry.registry import Registry

registry = Registry.open(sys.argv[1], Path(sys.argv[2]))
before = registry.snapshot(), registry.audit()
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, unlimited[1]))
try:
    registry.create_tenant("globex", actor="admin")
except StorageError as error:
    print(error.message)
assert (registry.snapshot(), registry.audit()) == before
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
registry.create_tenant("globex", actor="admin")
print(sorted(registry.snapshot().tenants))
"""


def test_a_full_disk_is_a_storage_error_and_changes_nothing(tmp_path: Path) -> None:
    url, artifacts_dir = f"sqlite:///{tmp_path}/registry.db", str(tmp_path / "artifacts")
    registry = Registry.open(url, Path(artifacts_dir))
    registry.create_tenant("acme", actor=ADMIN)
    registry.close()
    said = subprocess.run(
        [sys.executable, "-c", _ON_A_FULL_DISK, url, artifacts_dir],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert said[0].startswith("the database cannot be written")
    assert said[1:] == ["['acme', 'globex']"]


def test_values_are_never_part_of_the_sql(acme: Registry, folder: Path) -> None:
    hostile: Any = "x'); DELETE FROM tenants; --"
    acme.create_key("acme", name=hostile, scopes=BOTH, actor=hostile)
    push(acme, folder, actor=hostile)
    acme.promote("acme", "support", 1, actor=hostile, reason=hostile, force=True)
    assert acme.history("acme", "support")[0].reason == hostile
    with pytest.raises(UnknownKey):
        acme.revoke_key("acme", hostile, actor=hostile)
    assert set(acme.snapshot().tenants) == {"acme"}
