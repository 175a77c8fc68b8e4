"""Artifacts in a bucket, against a real S3 server: uploaded whole, fetched once, checked always."""

import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters_registry.artifacts import CONFIG_FILE, FILES, WEIGHTS_FILE, Damage
from adapters_registry.bucket import (
    PART_BYTES,
    Bucket,
    BucketAway,
    NoSuchObject,
    Place,
    parse_place,
)
from adapters_registry.errors import ArtifactDamaged, StorageError
from adapters_registry.s3_artifacts import S3ArtifactStore
from tests.s3_server import S3Bucket


@pytest.fixture
def store(s3: S3Bucket, tmp_path: Path) -> S3ArtifactStore:
    return S3ArtifactStore(tmp_path / "here", s3.open())


@pytest.fixture
def other(s3: S3Bucket, tmp_path: Path) -> S3ArtifactStore:
    """Another machine's store of the same bucket."""
    return S3ArtifactStore(tmp_path / "there", s3.open())


def _source(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / CONFIG_FILE).write_bytes(b"{}")
    (folder / WEIGHTS_FILE).write_bytes(weights)
    return folder


def _keys(digest: str) -> set[str]:
    return {f"{digest[:2]}/{digest}/{name}" for name in FILES}


def _weights_key(digest: str) -> str:
    return f"{digest[:2]}/{digest}/{WEIGHTS_FILE}"


def _later() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


def test_content_is_in_the_bucket_and_here(
    store: S3ArtifactStore, s3: S3Bucket, tmp_path: Path
) -> None:
    stored = store.put(_source(tmp_path / "in"))
    assert s3.keys() == _keys(stored.digest)
    assert s3.read(_weights_key(stored.digest)) == b"weights"
    assert stored.path == tmp_path / "here" / stored.digest[:2] / stored.digest
    assert store.holds(stored.digest)
    assert store.check(stored.digest) is None


def test_a_large_file_goes_up_in_parts_and_comes_down_whole(
    store: S3ArtifactStore, other: S3ArtifactStore, tmp_path: Path
) -> None:
    weights = os.urandom(2 * PART_BYTES + 12_345)
    stored = store.put(_source(tmp_path / "in", weights))
    assert (other.verify(stored.digest) / WEIGHTS_FILE).read_bytes() == weights


@pytest.mark.parametrize("call", ["verify", "at_hand"])
def test_another_machine_fetches_it_when_it_is_first_needed(
    call: str, store: S3ArtifactStore, other: S3ArtifactStore, tmp_path: Path, s3: S3Bucket
) -> None:
    digest = store.put(_source(tmp_path / "in")).digest
    path = getattr(other, call)(digest)
    assert path == other.path_of(digest)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == {
        CONFIG_FILE: b"{}",
        WEIGHTS_FILE: b"weights",
    }
    for key in _keys(digest):
        s3.delete(key)
    assert getattr(other, call)(digest) == path, "what is here is not fetched again"


def test_many_that_need_it_at_once_all_get_it(
    store: S3ArtifactStore, other: S3ArtifactStore, tmp_path: Path
) -> None:
    digest = store.put(_source(tmp_path / "in", os.urandom(2**20))).digest
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(other.verify(digest))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [other.path_of(digest)] * 6
    assert list((tmp_path / "there" / "tmp").iterdir()) == []


def test_a_damaged_copy_is_fetched_anew(store: S3ArtifactStore, tmp_path: Path) -> None:
    stored = store.put(_source(tmp_path / "in"))
    (stored.path / WEIGHTS_FILE).write_bytes(b"Weights")
    assert store.verify(stored.digest) == stored.path
    assert (stored.path / WEIGHTS_FILE).read_bytes() == b"weights"
    assert list((tmp_path / "here" / "tmp").iterdir()) == []


def test_damage_in_the_bucket_is_never_taken_in(
    store: S3ArtifactStore, other: S3ArtifactStore, tmp_path: Path, s3: S3Bucket
) -> None:
    digest = store.put(_source(tmp_path / "in")).digest
    s3.write(_weights_key(digest), b"Weights")
    with pytest.raises(ArtifactDamaged, match="damaged in the bucket: push"):
        other.verify(digest)
    assert not other.path_of(digest).exists()
    assert store.check(digest) is Damage.DAMAGED
    assert store.verify(digest) == store.path_of(digest), "the good copy here serves on"
    store.put(tmp_path / "in")
    assert s3.read(_weights_key(digest)) == b"weights"
    assert other.verify(digest) == other.path_of(digest)


@pytest.mark.parametrize("name", FILES)
def test_half_of_it_is_as_good_as_none(
    name: str, store: S3ArtifactStore, other: S3ArtifactStore, tmp_path: Path, s3: S3Bucket
) -> None:
    digest = store.put(_source(tmp_path / "in")).digest
    s3.delete(f"{digest[:2]}/{digest}/{name}")
    assert not store.holds(digest)
    assert store.check(digest) is Damage.MISSING
    with pytest.raises(ArtifactDamaged, match="missing in the bucket: push"):
        other.verify(digest)
    store.put(tmp_path / "in")
    assert other.verify(digest) == other.path_of(digest)


def test_a_check_mends_the_copy_here(store: S3ArtifactStore, tmp_path: Path) -> None:
    stored = store.put(_source(tmp_path / "in"))
    (stored.path / CONFIG_FILE).write_bytes(b"[]")
    assert store.check(stored.digest) is None
    assert (stored.path / CONFIG_FILE).read_bytes() == b"{}"


class _OneObject(Bucket):
    """Takes one object, and then the connection is gone."""

    taken: str | None = None

    def put(self, key: str, file: Path) -> None:
        if self.taken is not None:
            raise BucketAway("cut off")
        super().put(key, file)
        self.taken = key


def test_an_upload_that_is_cut_off_never_looks_complete(
    s3: S3Bucket, other: S3ArtifactStore, tmp_path: Path
) -> None:
    """The configuration goes up last, so whoever sees it sees both."""
    store = S3ArtifactStore(tmp_path / "here", _OneObject(parse_place(s3.url), s3.endpoint))
    with pytest.raises(StorageError, match="cut off"):
        store.put(_source(tmp_path / "in"))
    (left,) = s3.keys()
    assert left.endswith(WEIGHTS_FILE)
    (half,) = other.contents()
    assert not other.holds(half.digest)
    assert other.remove(half.digest, unless_after=_later())
    assert s3.keys() == set()
    assert [path.name for path in (tmp_path / "here").rglob("*")] == ["tmp"]


def test_a_listing_knows_all_contents_and_nothing_else(
    store: S3ArtifactStore, other: S3ArtifactStore, tmp_path: Path, s3: S3Bucket
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    digests = {
        store.put(_source(tmp_path / f"in{number}", b"w" * number)).digest for number in (1, 2)
    }
    s3.write("README.md", b"somebody else's")
    s3.write(f"aa/{'b' * 64}/{WEIGHTS_FILE}", b"in the wrong place")
    for each in (store, other):
        found = {content.digest: content for content in each.contents()}
        assert set(found) == digests
        assert {content.size_bytes for content in found.values()} == {3, 4}
        assert all(before < content.stored_at < _later() for content in found.values())


def test_removed_content_is_gone_from_the_bucket_and_from_here(
    store: S3ArtifactStore, other: S3ArtifactStore, tmp_path: Path, s3: S3Bucket
) -> None:
    digest = store.put(_source(tmp_path / "in")).digest
    other.verify(digest)
    assert not store.remove(digest, unless_after=datetime.now(UTC) - timedelta(hours=1))
    assert s3.keys() == _keys(digest)
    assert store.remove(digest, unless_after=_later())
    assert s3.keys() == set()
    assert list(store.contents()) == []
    assert [content.digest for content in other.contents()] == [digest], "its own copy"
    assert other.remove(digest, unless_after=_later())
    assert not other.remove(digest, unless_after=_later())
    assert store.put(tmp_path / "in").digest == digest


def test_a_push_of_content_that_is_there_renews_its_time(
    store: S3ArtifactStore, tmp_path: Path, s3: S3Bucket
) -> None:
    digest = store.put(_source(tmp_path / "in")).digest
    os.utime(store.path_of(digest), (0, 0))
    (first,) = (each.modified_at for each in s3.open().listing() if each.key.endswith(CONFIG_FILE))
    deadline = threading.Event()
    while (renewed := _put_again(store, s3, tmp_path)) == first:
        deadline.wait(0.1)  # S3's clock has whole seconds
    assert renewed > first
    assert store.path_of(digest).stat().st_mtime > 0


def _put_again(store: S3ArtifactStore, s3: S3Bucket, tmp_path: Path) -> datetime:
    store.put(tmp_path / "in")
    return max(each.modified_at for each in s3.open().listing())


@pytest.mark.parametrize("place", ["no bucket", "no server"])
def test_a_bucket_that_is_not_there_is_told_without_its_secrets(
    place: str, s3: S3Bucket, tmp_path: Path
) -> None:
    if place == "no bucket":
        bucket = Bucket(Place("never-made-bucket", ""), s3.endpoint)
    else:
        bucket = Bucket(parse_place(s3.url), "http://127.0.0.1:9")
    store = S3ArtifactStore(tmp_path / "here", bucket)
    with pytest.raises(NoSuchObject if place == "no bucket" else BucketAway) as refused:
        store.put(_source(tmp_path / "in"))
    for secret in (str(tmp_path), "127.0.0.1", "Authorization", "never-made"):
        assert secret not in refused.value.message
    assert [path.name for path in (tmp_path / "here").rglob("*")] == ["tmp"]


def test_what_is_here_serves_on_while_the_bucket_is_away(
    store: S3ArtifactStore, s3: S3Bucket, tmp_path: Path
) -> None:
    stored = store.put(_source(tmp_path / "in"))
    alone = S3ArtifactStore(tmp_path / "here", Bucket(parse_place(s3.url), "http://127.0.0.1:9"))
    assert alone.verify(stored.digest) == stored.path
    assert alone.at_hand(stored.digest) == stored.path


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bucket/prefix",
        "http://bucket/prefix",
        "s3:///prefix",
        "s3://b/prefix",
        "s3://bucket//prefix",
        "s3://bucket/../prefix",
        "s3://bucket/a/./b",
        "s3://bucket/a\nb",
        "s3://user:secret@bucket/prefix",
    ],
)
def test_a_url_that_names_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_place(url)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://bucket", Place("bucket", "")),
        ("s3://bucket/", Place("bucket", "")),
        ("s3://bucket/a/b c/", Place("bucket", "a/b c")),
    ],
)
def test_a_url_is_a_bucket_and_a_prefix(url: str, place: Place) -> None:
    assert parse_place(url) == place


def test_a_whole_bucket_can_be_the_place(s3: S3Bucket, tmp_path: Path) -> None:
    store = S3ArtifactStore(tmp_path / "here", Bucket(Place(s3.name, ""), s3.endpoint))
    folder = _source(tmp_path / "in")
    (folder / CONFIG_FILE).write_text(json.dumps({"r": 4}))
    digest = store.put(folder).digest
    assert [content.digest for content in store.contents()] == [digest]
