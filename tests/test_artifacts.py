"""Adapter files by content: stored once, whole or not at all, found and checked by digest."""

import hashlib
import os
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters_registry.artifacts import CONFIG_FILE, FILES, WEIGHTS_FILE, ArtifactStore, Damage
from adapters_registry.errors import ArtifactDamaged, StorageError


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def _source(folder: Path, config: bytes = b"{}", weights: bytes = b"weights") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / CONFIG_FILE).write_bytes(config)
    (folder / WEIGHTS_FILE).write_bytes(weights)
    return folder


def _everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_digest_is_that_of_a_sha256sum_listing(store: ArtifactStore, tmp_path: Path) -> None:
    stored = store.put(_source(tmp_path / "in", b"config", b"weights"))
    listing = (
        f"{hashlib.sha256(b'config').hexdigest()}  adapter_config.json\n"
        f"{hashlib.sha256(b'weights').hexdigest()}  adapter_model.safetensors\n"
    )
    assert stored.digest == hashlib.sha256(listing.encode()).hexdigest()
    assert stored.path == tmp_path / "artifacts" / stored.digest[:2] / stored.digest
    assert stored.size_bytes == len(b"config" + b"weights")


def test_only_the_two_files_are_copied(store: ArtifactStore, tmp_path: Path) -> None:
    source = _source(tmp_path / "in")
    (source / "evil.py").write_text("import os")
    (source / "more").mkdir()
    stored = store.put(source)
    assert _everything_below(stored.path) == set(FILES)


def test_folders_and_files_are_for_their_owner_alone(store: ArtifactStore, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        stored = store.put(_source(tmp_path / "in"))
    finally:
        os.umask(old)
    folders = [stored.path, stored.path.parent, tmp_path / "artifacts"]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
    assert {stat.S_IMODE((stored.path / name).stat().st_mode) for name in FILES} == {0o600}


def test_the_same_content_is_stored_once(store: ArtifactStore, tmp_path: Path) -> None:
    first = store.put(_source(tmp_path / "in"))
    written = (first.path / WEIGHTS_FILE).stat().st_ino
    assert store.put(_source(tmp_path / "again")) == first
    assert (first.path / WEIGHTS_FILE).stat().st_ino == written
    assert _everything_below(tmp_path / "artifacts" / "tmp") == set()


@pytest.mark.parametrize("name", FILES)
def test_other_content_is_another_artifact(name: str, store: ArtifactStore, tmp_path: Path) -> None:
    first = store.put(_source(tmp_path / "in"))
    (tmp_path / "in" / name).write_bytes(b"other")
    assert store.put(tmp_path / "in").digest != first.digest


@pytest.mark.parametrize("damage", ["flipped", "short", "missing", "a link"])
def test_damage_is_seen_and_a_new_push_mends_it(
    damage: str, store: ArtifactStore, tmp_path: Path
) -> None:
    stored = store.put(_source(tmp_path / "in"))
    victim = stored.path / WEIGHTS_FILE
    if damage in ("missing", "a link"):
        victim.unlink()
    else:
        victim.write_bytes(b"Weights" if damage == "flipped" else b"w")
    if damage == "a link":
        victim.symlink_to(tmp_path / "in" / WEIGHTS_FILE)
    with pytest.raises(ArtifactDamaged, match="damaged"):
        store.verify(stored.digest)
    missing = damage == "missing"
    assert store.check(stored.digest) is (Damage.MISSING if missing else Damage.DAMAGED)
    assert store.holds(stored.digest) is not missing
    assert store.put(tmp_path / "in") == stored
    assert store.verify(stored.digest) == stored.path
    assert victim.read_bytes() == b"weights"
    assert _everything_below(tmp_path / "artifacts" / "tmp") == set()


def test_a_listing_knows_all_contents_and_when_they_were_put(
    store: ArtifactStore, tmp_path: Path
) -> None:
    assert list(store.contents()) == []
    stored = store.put(_source(tmp_path / "in"))
    for name in ("notes", "ab/notes", f"ab/{'c' * 64}"):
        (tmp_path / "artifacts" / name).mkdir(parents=True)
    (found,) = store.contents()
    assert (found.digest, found.size_bytes) == (stored.digest, stored.size_bytes)
    assert abs(found.stored_at - datetime.now(UTC)) < timedelta(minutes=10)


def test_content_that_is_put_again_counts_as_put_now(store: ArtifactStore, tmp_path: Path) -> None:
    stored = store.put(_source(tmp_path / "in"))
    os.utime(stored.path, (0, 0))
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    assert next(store.contents()).stored_at < long_ago
    store.put(tmp_path / "in")
    assert next(store.contents()).stored_at > long_ago


def test_removed_content_is_gone_at_once_and_its_space_with_a_sweep(
    store: ArtifactStore, tmp_path: Path
) -> None:
    stored = store.put(_source(tmp_path / "in"))
    now = datetime.now(UTC) + timedelta(seconds=1)
    assert not store.remove(stored.digest, unless_after=now - timedelta(hours=1))
    assert store.holds(stored.digest)
    assert store.remove(stored.digest, unless_after=now)
    assert not store.holds(stored.digest)
    assert store.check(stored.digest) is Damage.MISSING
    assert len(_everything_below(tmp_path / "artifacts" / "tmp")) == 3
    store.sweep()
    assert _everything_below(tmp_path / "artifacts" / "tmp") == set()
    assert not store.remove(stored.digest, unless_after=now)
    assert store.put(tmp_path / "in") == stored


@pytest.mark.parametrize(
    "digest", ["", "..", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", f"{'a' * 62}/."]
)
def test_a_path_is_made_from_a_digest_and_nothing_else(digest: str, store: ArtifactStore) -> None:
    with pytest.raises(StorageError, match="64 hex digits"):
        store.path_of(digest)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "missing"])
def test_what_is_no_plain_file_is_not_stored(
    kind: str, store: ArtifactStore, tmp_path: Path
) -> None:
    source = _source(tmp_path / "in")
    victim = source / WEIGHTS_FILE
    victim.unlink()
    if kind == "link":
        victim.symlink_to("/etc/hostname")
    elif kind == "pipe":
        os.mkfifo(victim)
    elif kind == "folder":
        victim.mkdir()
    with pytest.raises(StorageError) as refused:
        store.put(source)
    assert str(tmp_path) not in refused.value.message
    assert _everything_below(tmp_path / "artifacts") == {"tmp"}


def test_many_threads_store_the_same_content_once(store: ArtifactStore, tmp_path: Path) -> None:
    source = _source(tmp_path / "in", weights=os.urandom(2**20))
    stored = []
    threads = [threading.Thread(target=lambda: stored.append(store.put(source))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored) == 8
    assert all(each == stored[0] for each in stored)
    assert store.verify(stored[0].digest) == stored[0].path
    assert _everything_below(tmp_path / "artifacts" / "tmp") == set()


_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from adapters_registry.artifacts import ArtifactStore
from adapters_registry.errors import StorageError

store = ArtifactStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
try:
    store.put(Path(sys.argv[2]))
except StorageError as error:
    print(error.message)
"""


def test_a_disk_that_takes_no_more_is_a_storage_error(tmp_path: Path) -> None:
    source = _source(tmp_path / "in", weights=bytes(2**20))
    said = subprocess.run(
        [sys.executable, "-c", _ON_A_FULL_DISK, str(tmp_path / "artifacts"), str(source)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "cannot be stored" in said
    assert _everything_below(tmp_path / "artifacts") == {"tmp"}
