"""A backup of everything and its restoring, between databases, while work goes on."""

import io
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from adapters_registry.artifacts import WEIGHTS_FILE
from adapters_registry.backups import read_backup
from adapters_registry.database import Database
from adapters_registry.errors import AlreadyExists, InvalidArchive, RegistryError
from adapters_registry.registry import Registry
from adapters_registry.tables import metadata
from adapters_registry.tenants import parse_key, secret_matches
from tests.archives_for_tests import pack, sent_until_broken, unpack
from tests.busy_registry import ADMIN, fill, push

ROUTES = [("sqlite", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "sqlite")]
VERSIONS = "tables/versions.jsonl"
DEADLINE_S = 60


class Installation:
    """A registry, and what of it lies under `folder`."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.registry = Registry.open(url, folder / "artifacts")

    def rows(self) -> dict[str, list[Any]]:
        """All that the database holds."""
        database = Database(self.url)
        with database.read() as connection:
            found = {
                table.name: [
                    tuple(row)
                    for row in connection.execute(
                        select(table).order_by(*table.primary_key.columns)
                    )
                ]
                for table in metadata.sorted_tables
            }
        database.close()
        return found

    def files(self) -> dict[str, bytes]:
        """All artifacts' files."""
        return {
            str(file.relative_to(self.folder)): file.read_bytes()
            for file in sorted((self.folder / "artifacts").rglob("*"))
            if file.is_file()
        }


@pytest.fixture(params=ROUTES, ids=["-to-".join(route) for route in ROUTES])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Installation]]:
    """An installation in use and an empty one."""
    with ExitStack() as stack:
        opened = []
        for kind, name in zip(request.param, ("source", "target"), strict=True):
            url = f"sqlite:///{tmp_path}/{name}/registry.db"
            if kind == "postgresql":
                url = stack.enter_context(request.getfixturevalue("postgres").database())
            opened.append(Installation(url, tmp_path / name))
            stack.callback(opened[-1].registry.close)
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry.open(f"sqlite:///{tmp_path}/source/r.db", tmp_path / "source" / "artifacts")
    fill(opened, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry.open(f"sqlite:///{tmp_path}/target/r.db", tmp_path / "target" / "artifacts")
    yield opened
    opened.close()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def backed_up(registry: Registry, work: Path) -> bytes:
    archive = registry.backup(work)
    try:
        content = b"".join(archive)
    finally:
        archive.close()
    assert len(content) == archive.size_bytes
    assert list(work.iterdir()) == []
    return content


def restored(registry: Registry, content: bytes, work: Path) -> None:
    registry.restore(io.BytesIO(content), work)


def test_everything_comes_back(ends: list[Installation], tmp_path: Path, work: Path) -> None:
    source, target = ends
    text = fill(source.registry, tmp_path)
    content = backed_up(source.registry, work)
    restored(target.registry, content, work)
    assert target.rows() == source.rows()
    assert target.files() == source.files()
    assert list(work.iterdir()) == []
    key_id, secret = parse_key(text) or ("", "")
    assert secret_matches(target.registry.snapshot().keys[key_id], secret)
    assert target.registry.verify_artifacts().damaged == ()


def test_life_goes_on_after_a_restore(ends: list[Installation], tmp_path: Path, work: Path) -> None:
    source, target = ends
    fill(source.registry, tmp_path)
    restored(target.registry, backed_up(source.registry, work), work)
    revision, newest = target.registry.revision(), target.registry.audit()[0].id
    assert push(target.registry, tmp_path, 60).number == 5
    assert push(target.registry, tmp_path, 61, adapter="new").number == 1
    assert target.registry.rollback("acme", "support", actor=ADMIN).live == 2
    assert target.registry.restore_tenant("gone", actor=ADMIN).name == "gone"
    target.registry.create_tenant("later", actor=ADMIN)
    assert target.registry.revision() == revision + 5
    assert [entry.id for entry in target.registry.audit()[:5]] == [*range(newest + 5, newest, -1)]


def test_an_empty_installation_can_be_backed_up_and_restored(
    source: Registry, target: Registry, tmp_path: Path, work: Path
) -> None:
    content = backed_up(target, work)
    restored(target, content, work)
    restored(target, backed_up(source, work), work)
    assert target.snapshot().tenants.keys() == source.snapshot().tenants.keys()


def test_a_registry_in_use_is_never_overwritten(
    source: Registry, target: Registry, work: Path
) -> None:
    content = backed_up(source, work)
    target.create_tenant("here", actor=ADMIN)
    before = target.snapshot(), target.audit()
    with pytest.raises(AlreadyExists, match="not empty"):
        restored(target, content, work)
    target.delete_tenant("here", actor=ADMIN)
    with pytest.raises(AlreadyExists, match="not empty"):
        restored(target, content, work)
    assert list(target.artifacts.contents()) == []
    assert before[1] == target.audit()[1:]


def test_secrets_are_inside_as_hashes_only(tmp_path: Path, work: Path) -> None:
    registry = Registry.open(f"sqlite:///{tmp_path}/r.db", tmp_path / "artifacts")
    _, secret = parse_key(fill(registry, tmp_path)) or ("", "")
    content = backed_up(registry, work)
    registry.close()
    assert secret.encode() not in content
    assert json.loads(unpack(content)["tables/keys.jsonl"].splitlines()[0])["secret_sha256"]


def test_a_backup_under_load_is_of_one_moment(source: Registry, tmp_path: Path, work: Path) -> None:
    ended = threading.Event()
    failed: list[BaseException] = []

    def write() -> None:
        try:
            for seed in range(30, 50):
                number = push(source, tmp_path, seed).number
                source.promote("acme", "support", number, actor=ADMIN, force=True)
                if number > 6:
                    source.delete_version("acme", "support", number - 2, actor=ADMIN)
        except BaseException as error:
            failed.append(error)
        finally:
            ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    taken = []
    while not ended.is_set():
        taken.append(backed_up(source, work))
    writer.join(DEADLINE_S)
    assert not failed
    assert len(taken) > 1
    for number, content in enumerate(taken[:: max(1, len(taken) // 4)]):
        folder = tmp_path / f"copy-{number}"
        copy = Registry.open(f"sqlite:///{folder}/r.db", folder / "artifacts")
        restored(copy, content, work)
        assert copy.revision() == len(copy.audit(limit=1000))
        adapter = copy.snapshot().tenants["acme"].adapters["support"]
        moves = [entry for entry in copy.history("acme", "support") if entry.action == "promote"]
        assert adapter.live == moves[0].to_version
        assert copy.verify_artifacts().damaged == ()
        copy.close()


def test_a_damaged_artifact_leaves_the_backup_unfinished(
    source: Registry, target: Registry, work: Path
) -> None:
    version = source.snapshot().tenants["globex"].adapters["support"].versions[1]
    weights = bytearray((version.path / WEIGHTS_FILE).read_bytes())
    weights[-1] ^= 1
    (version.path / WEIGHTS_FILE).write_bytes(weights)
    archive = source.backup(work)
    sent, reason = sent_until_broken(archive)
    archive.close()
    assert "is damaged" in reason
    with pytest.raises(InvalidArchive):
        restored(target, sent, work)


# What is refused, before anything is kept


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A backup of a registry like `source`."""
    folder = tmp_path_factory.mktemp("good")
    opened = Registry.open(f"sqlite:///{folder}/r.db", folder / "artifacts")
    fill(opened, folder)
    content = backed_up(opened, tmp_path_factory.mktemp("work"))
    opened.close()
    return content


def _rows(name: str, edit: Callable[[list[Any]], object]) -> Callable[[bytes], bytes]:
    """A change of a table's rows; the manifest tells the new digest, and the old count."""

    def spoil(content: bytes) -> bytes:
        members = unpack(content)
        rows = [json.loads(line) for line in members[name].splitlines()]
        edit(rows)
        members[name] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        return pack(members)

    return spoil


def _without(prefix: str) -> Callable[[bytes], bytes]:
    def drop(content: bytes) -> bytes:
        members = unpack(content)
        del members[next(name for name in members if name.startswith(prefix))]
        return pack(members)

    return drop


def _flipped(content: bytes) -> bytes:
    members = unpack(content)
    name = next(name for name in members if name.endswith(WEIGHTS_FILE))
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])
    return pack(members)


BAD: dict[str, tuple[Callable[[bytes], bytes], type[RegistryError], str]] = {
    "cut off": (lambda content: content[:-1500], InvalidArchive, "."),
    "a tenant's": (lambda content: pack(unpack(content), kind="tenant"), InvalidArchive, "tenant"),
    "another schema": (
        lambda content: pack(unpack(content), database_schema="0000"),
        InvalidArchive,
        "restore it with that release",
    ),
    "a strange file": (
        lambda content: pack({"admin.key": b"", **unpack(content)}), InvalidArchive, "no member"
    ),
    "no table": (_without("tables/keys"), InvalidArchive, "is missing"),
    "no artifact": (_without("artifacts/"), InvalidArchive, "digest|missing"),
    "other weights": (_flipped, InvalidArchive, "digest"),
    "a row less": (_rows(VERSIONS, lambda rows: rows.pop(0)), InvalidArchive, "as many rows"),
    "a column less": (
        _rows(VERSIONS, lambda rows: rows[0].pop("rank")), InvalidArchive, "line 1 is no row"
    ),
    "a column more": (
        _rows(VERSIONS, lambda rows: rows[1].update(x=1)), InvalidArchive, "line 2 is no row"
    ),
    "another type": (
        _rows(VERSIONS, lambda rows: rows[0].update(rank="8")), InvalidArchive, "line 1 is no row"
    ),
    "a digest of another type": (
        _rows(VERSIONS, lambda rows: rows[2].update(digest=[])), InvalidArchive, "line 3 is no row"
    ),
    "no time": (
        _rows("tables/tenants.jsonl", lambda rows: rows[0].update(created_at="now")),
        InvalidArchive,
        "line 1 is no row",
    ),
    "no JSON": (
        lambda content: pack(unpack(content) | {"tables/audit.jsonl": b"{\n"}),
        InvalidArchive,
        "line 1 is no row",
    ),
    "rows that contradict": (
        _rows(VERSIONS, lambda rows: rows[-1].update(adapter_id=999)),
        InvalidArchive,
        "contradict",
    ),
    "nothing where something must be": (
        _rows("tables/keys.jsonl", lambda rows: rows[0].update(secret_sha256=None)),
        InvalidArchive,
        "contradict",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_backup_is_refused(name: str, good: bytes, target: Registry, work: Path) -> None:
    spoil, error, said = BAD[name]
    with pytest.raises(error, match=said):
        restored(target, spoil(good), work)
    assert target.revision() == 0
    assert target.snapshot().tenants == {}
    assert list(work.iterdir()) == []
    if "contradict" not in said:
        assert list(target.artifacts.contents()) == []
    restored(target, good, work)
    assert target.snapshot().tenants.keys() == {"acme", "globex"}


def test_a_restored_database_is_whole(
    source: Registry, target: Registry, work: Path, tmp_path: Path
) -> None:
    restored(target, backed_up(source, work), work)
    with sqlite3.connect(tmp_path / "target" / "r.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def test_a_backup_says_what_it_is(source: Registry, work: Path) -> None:
    manifest = read_backup(io.BytesIO(backed_up(source, work))).manifest
    assert (manifest.format, manifest.kind, manifest.database_schema) == (1, "backup", "0001")
    assert manifest.counts["tables/tenants.jsonl"] == 3
    assert manifest.counts["artifacts"] == 6
