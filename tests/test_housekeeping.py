"""Garbage collection and verification: what is referred to stays, whatever else happens."""

import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters_registry.artifacts import (
    WEIGHTS_FILE,
    ArtifactStore,
    Content,
    Damage,
    StoredArtifact,
)
from adapters_registry.database import Database
from adapters_registry.errors import StorageError
from adapters_registry.housekeeping import Collected
from adapters_registry.registry import Registry
from adapters_registry.s3_artifacts import S3ArtifactStore
from adapters_registry.types import ServingProfile, Version
from tests.adapters_for_tests import good_adapter, tiny_base
from tests.s3_server import S3Bucket

ADMIN = "admin"
BASE = tiny_base()
NOW = timedelta(0)
HOUR = timedelta(hours=1)


def _registry(tmp_path: Path, store: ArtifactStore) -> Registry:
    database = Database(f"sqlite:///{tmp_path}/registry.db")
    database.migrate()
    registry = Registry(database, store)
    registry.create_tenant("acme", actor=ADMIN)
    return registry


@pytest.fixture(params=["local", "s3"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    if request.param == "local":
        store = ArtifactStore(tmp_path / "artifacts")
    else:
        bucket: S3Bucket = request.getfixturevalue("s3")
        store = S3ArtifactStore(tmp_path / "artifacts", bucket.open())
    opened = _registry(tmp_path, store)
    yield opened
    opened.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Registry]:
    opened = _registry(tmp_path, ArtifactStore(tmp_path / "artifacts"))
    yield opened
    opened.close()


def push(registry: Registry, folder: Path, tenant: str = "acme", adapter: str = "a") -> Version:
    return registry.push(
        tenant, adapter, folder, base=BASE, max_rank=16, profile=ServingProfile(), actor=ADMIN
    )


def collect(registry: Registry, grace: timedelta = NOW, keep: tuple[str, ...] = ()) -> Collected:
    return registry.collect_garbage(grace=grace, actor=ADMIN, keep=keep)


def stored(registry: Registry) -> set[str]:
    return {content.digest for content in registry.artifacts.contents()}


def a_second_passes(registry: Registry, digest: str) -> None:
    """S3 tells times in whole seconds, so a collection without grace may find one in the future."""
    path = registry.artifacts.path_of(digest)
    newest = max(content.stored_at for content in registry.artifacts.contents())
    os.utime(path)
    clock = threading.Event()
    while datetime.now(UTC) <= newest + timedelta(seconds=1):
        clock.wait(0.05)


# Garbage collection


def test_only_what_no_version_refers_to_goes(registry: Registry, tmp_path: Path) -> None:
    kept = push(registry, good_adapter(tmp_path / "one", BASE, seed=1))
    gone = push(registry, good_adapter(tmp_path / "two", BASE, seed=2))
    registry.delete_version("acme", "a", gone.number, actor=ADMIN)
    a_second_passes(registry, gone.digest)
    done = collect(registry)
    assert done.removed == (gone.digest,)
    assert done.kept == 1
    assert done.freed_bytes == gone.size_bytes
    assert stored(registry) == {kept.digest}
    assert registry.artifacts.verify(kept.digest) == kept.path
    assert not gone.path.exists()
    assert list((tmp_path / "artifacts" / "tmp").iterdir()) == []


def test_content_that_another_version_shares_stays(local: Registry, tmp_path: Path) -> None:
    folder = good_adapter(tmp_path / "one", BASE)
    first, second = push(local, folder), push(local, folder)
    local.create_tenant("globex", actor=ADMIN)
    push(local, folder, tenant="globex")
    for number in (first.number, second.number):
        local.delete_version("acme", "a", number, actor=ADMIN)
    assert collect(local).removed == ()
    local.delete_version("globex", "a", 1, actor=ADMIN)
    assert collect(local).removed == (first.digest,)


def test_the_grace_begins_with_the_deletion(local: Registry, tmp_path: Path) -> None:
    version = push(local, good_adapter(tmp_path / "one", BASE))
    os.utime(version.path, (0, 0))
    local.delete_version("acme", "a", 1, actor=ADMIN)
    assert collect(local, HOUR).removed == ()
    assert stored(local) == {version.digest}
    assert collect(local).removed == (version.digest,)


def test_what_was_never_registered_has_its_grace_from_when_it_was_stored(
    local: Registry, tmp_path: Path
) -> None:
    orphan = local.artifacts.put(good_adapter(tmp_path / "one", BASE))
    assert collect(local, HOUR).removed == ()
    os.utime(orphan.path, (0, 0))
    local.artifacts.put(tmp_path / "one")  # as a push does, which is not done yet
    assert collect(local, HOUR).removed == ()
    os.utime(orphan.path, (0, 0))
    assert collect(local, HOUR).removed == (orphan.digest,)


def test_what_an_engine_holds_stays(local: Registry, tmp_path: Path) -> None:
    version = push(local, good_adapter(tmp_path / "one", BASE))
    local.delete_version("acme", "a", 1, actor=ADMIN)
    for keep in (version.digest, version.digest[:12]):
        assert collect(local, keep=(keep,)).removed == ()
    assert collect(local, keep=("0" * 64,)).removed == (version.digest,)


def test_a_deleted_tenants_files_stay_until_it_is_purged(local: Registry, tmp_path: Path) -> None:
    version = push(local, good_adapter(tmp_path / "one", BASE))
    local.delete_tenant("acme", actor=ADMIN)
    assert collect(local) == Collected((), 0, 1, ())
    local.restore_tenant("acme", actor=ADMIN)
    assert local.artifacts.verify(version.digest) == version.path
    local.delete_tenant("acme", actor=ADMIN, undo_time=NOW)
    done = collect(local)
    assert (done.purged, done.removed) == (("acme",), (version.digest,))


def test_a_collection_is_on_record_and_one_that_finds_nothing_is_not(
    local: Registry, tmp_path: Path
) -> None:
    version = push(local, good_adapter(tmp_path / "one", BASE))
    local.delete_version("acme", "a", 1, actor=ADMIN)
    revision, before = local.revision(), local.audit()
    collect(local)
    collect(local)
    newest, *rest = local.audit()
    assert rest == before
    assert local.revision() == revision + 1
    assert (newest.action, newest.actor, newest.tenant) == ("artifacts.collect", ADMIN, None)
    assert newest.detail == {"digests": [version.digest], "freed_bytes": version.size_bytes}


def test_what_a_killed_push_left_is_swept(local: Registry, tmp_path: Path) -> None:
    left = tmp_path / "artifacts" / "tmp" / "left"
    left.mkdir()
    (left / WEIGHTS_FILE).write_bytes(b"half")
    collect(local, HOUR)
    assert not left.exists()


def test_foreign_files_in_the_store_are_left_alone(local: Registry, tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    foreign = [root / "ab" / "notes", root / "lost+found", root / "ab" / ("c" * 64)]
    for folder in foreign:
        folder.mkdir(parents=True)
    assert collect(local) == Collected((), 0, 0, ())
    assert all(folder.is_dir() for folder in foreign)


# Against pushes


class _BetweenStore(ArtifactStore):
    """Does something once, at the moment that a test names."""

    after_put: Callable[[], object] | None = None
    before_remove: Callable[[], object] | None = None

    def put(self, folder: Path) -> StoredArtifact:
        done = super().put(folder)
        if (act := self.after_put) is not None:
            self.after_put = None
            act()
        return done

    def remove(self, digest: str, *, unless_after: datetime) -> bool:
        if (act := self.before_remove) is not None:
            self.before_remove = None
            act()
        return super().remove(digest, unless_after=unless_after)


@pytest.fixture
def between(tmp_path: Path) -> _BetweenStore:
    return _BetweenStore(tmp_path / "artifacts")


def test_a_collection_between_a_pushs_files_and_its_version_loses_nothing(
    between: _BetweenStore, tmp_path: Path
) -> None:
    registry = _registry(tmp_path, between)
    collected: list[Collected] = []
    between.after_put = lambda: collected.append(collect(registry))
    version = push(registry, good_adapter(tmp_path / "one", BASE))
    assert [done.removed for done in collected] == [(version.digest,)]
    assert registry.artifacts.verify(version.digest) == version.path
    assert registry.revision() == len(registry.audit())
    registry.close()


def test_content_that_is_put_again_while_a_collection_looks_at_it_stays(
    between: _BetweenStore, tmp_path: Path
) -> None:
    registry = _registry(tmp_path, between)
    orphan = between.put(good_adapter(tmp_path / "one", BASE))
    os.utime(orphan.path, (0, 0))
    between.before_remove = lambda: ArtifactStore(tmp_path / "artifacts").put(tmp_path / "one")
    assert collect(registry, HOUR).removed == ()
    assert push(registry, tmp_path / "one").digest == orphan.digest
    assert registry.artifacts.verify(orphan.digest) == orphan.path
    registry.close()


class _ListedThenPushed(ArtifactStore):
    """A push comes to its end after the collection's first look at the database."""

    then: Callable[[], object] | None = None

    def contents(self) -> Iterator[Content]:
        for content in super().contents():
            if (act := self.then) is not None:
                self.then = None
                act()
            yield content


def test_a_push_that_ends_while_a_collection_runs_keeps_its_content(tmp_path: Path) -> None:
    store = _ListedThenPushed(tmp_path / "artifacts")
    registry = _registry(tmp_path, store)
    orphan = store.put(good_adapter(tmp_path / "one", BASE))
    store.then = lambda: push(registry, tmp_path / "one")
    assert collect(registry).removed == ()
    assert registry.artifacts.verify(orphan.digest) == orphan.path
    registry.close()


def test_pushes_deletions_and_collections_at_once_lose_nothing(
    local: Registry, tmp_path: Path
) -> None:
    """Two contents, pushed and deleted again and again, without any grace."""
    folders = [good_adapter(tmp_path / f"in{seed}", BASE, seed=seed) for seed in range(2)]
    done = threading.Event()
    problems: list[object] = []

    def clean() -> None:
        while not done.is_set():
            collect(local)

    def work(adapter: str, folder: Path) -> None:
        try:
            for _ in range(15):
                version = push(local, folder, adapter=adapter)
                local.artifacts.verify(version.digest)
                local.delete_version("acme", adapter, version.number, actor=ADMIN)
            push(local, folder, adapter=adapter)
        except Exception as problem:
            problems.append(problem)

    cleaners = [threading.Thread(target=clean) for _ in range(2)]
    workers = [
        threading.Thread(target=work, args=(f"a{number}", folders[number % 2]))
        for number in range(4)
    ]
    for thread in (*cleaners, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    for thread in cleaners:
        thread.join()
    assert problems == []
    assert local.verify_artifacts().damaged == ()
    collect(local)
    assert len(stored(local)) == 2
    assert list((tmp_path / "artifacts" / "tmp").iterdir()) == []


class _NothingIsRemoved(ArtifactStore):
    def remove(self, digest: str, *, unless_after: datetime) -> bool:
        if self.taken:
            raise StorageError("the disk is gone")
        self.taken = True
        return super().remove(digest, unless_after=unless_after)

    taken = False


def test_what_was_removed_before_a_fault_is_on_record(tmp_path: Path) -> None:
    registry = _registry(tmp_path, _NothingIsRemoved(tmp_path / "artifacts"))
    for seed in range(2):
        push(registry, good_adapter(tmp_path / f"in{seed}", BASE, seed=seed))
        registry.delete_version("acme", "a", seed + 1, actor=ADMIN)
    with pytest.raises(StorageError, match="the disk is gone"):
        collect(registry)
    (left,) = stored(registry)
    newest = registry.audit()[0]
    assert newest.action == "artifacts.collect"
    assert newest.target == "1 contents"
    assert left not in str(newest.detail)
    registry.close()


# Verification


def test_a_good_store_verifies(registry: Registry, tmp_path: Path) -> None:
    folder = good_adapter(tmp_path / "one", BASE)
    push(registry, folder)
    push(registry, folder)
    push(registry, good_adapter(tmp_path / "two", BASE, seed=2))
    stages: list[float | None] = []
    found = registry.verify_artifacts(lambda _stage, fraction: stages.append(fraction))
    assert (found.checked, found.damaged) == (2, ())
    assert stages == [0.0, 0.5]


@pytest.mark.parametrize("damage", [Damage.MISSING, Damage.DAMAGED])
def test_damage_is_named_by_version_and_a_push_heals_it(
    damage: Damage, local: Registry, tmp_path: Path
) -> None:
    good = push(local, good_adapter(tmp_path / "good", BASE, seed=1))
    folder = good_adapter(tmp_path / "bad", BASE, seed=2)
    bad = push(local, folder, adapter="b")
    push(local, folder, adapter="c")
    victim = bad.path / WEIGHTS_FILE
    if damage is Damage.MISSING:
        victim.unlink()
    else:
        flip_a_byte(victim)
    found = local.verify_artifacts()
    assert found.checked == 2
    assert [(each.label, each.digest, each.damage) for each in found.damaged] == [
        ("acme/b@1", bad.digest, damage),
        ("acme/c@1", bad.digest, damage),
    ]
    assert local.artifacts.verify(good.digest) == good.path
    assert push(local, folder, adapter="b").digest == bad.digest
    assert local.verify_artifacts().damaged == ()


def test_damage_of_what_is_deleted_is_nobodys_trouble(local: Registry, tmp_path: Path) -> None:
    version = push(local, good_adapter(tmp_path / "one", BASE))
    local.delete_version("acme", "a", 1, actor=ADMIN)
    flip_a_byte(version.path / WEIGHTS_FILE)
    assert local.verify_artifacts().damaged == ()


def test_a_deleted_tenants_files_are_verified_while_it_can_come_back(
    local: Registry, tmp_path: Path
) -> None:
    version = push(local, good_adapter(tmp_path / "one", BASE))
    local.delete_tenant("acme", actor=ADMIN)
    flip_a_byte(version.path / WEIGHTS_FILE)
    assert [each.label for each in local.verify_artifacts().damaged] == ["acme/a@1"]


def test_damage_in_the_bucket_is_named(s3: S3Bucket, tmp_path: Path) -> None:
    registry = _registry(tmp_path, S3ArtifactStore(tmp_path / "artifacts", s3.open()))
    version = push(registry, good_adapter(tmp_path / "one", BASE))
    s3.write(f"{version.digest[:2]}/{version.digest}/{WEIGHTS_FILE}", b"not it")
    (found,) = registry.verify_artifacts().damaged
    assert (found.label, found.damage) == ("acme/a@1", Damage.DAMAGED)
    push(registry, tmp_path / "one")
    assert registry.verify_artifacts().damaged == ()
    registry.close()


def flip_a_byte(file: Path) -> None:
    """One bit of the last byte."""
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        (last,) = opened.read(1)
        opened.seek(-1, os.SEEK_END)
        opened.write(bytes([last ^ 1]))
