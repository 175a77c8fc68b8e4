"""A tenant's way from one installation to another: nothing lost, and nothing bad let in."""

import hashlib
import io
import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters_registry.archive import Kind, ReadArchive
from adapters_registry.artifacts import FILES, WEIGHTS_FILE, content_digest
from adapters_registry.base_model import BaseModelSpec
from adapters_registry.errors import (
    AlreadyExists,
    InvalidAdapter,
    InvalidArchive,
    InvalidName,
    RegistryError,
    StorageError,
    UnknownTenant,
)
from adapters_registry.registry import Registry
from adapters_registry.tables import history, versions
from adapters_registry.tenant_archive import (
    AdapterForm,
    MoveForm,
    VersionForm,
    most_bytes,
    read_tenant,
)
from adapters_registry.types import Tenant, Version
from tests.adapters_for_tests import good_adapter, tiny_base
from tests.archives_for_tests import edited, pack, sent_until_broken, unpack
from tests.busy_registry import ADMIN, BASE, LINEAGE, PASSED, fill, push

SUPPORT = "adapters/support/adapter.json"
SALES = "adapters/sales/adapter.json"
DEADLINE_S = 60
ROUTES = [("sqlite", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "sqlite")]


@pytest.fixture(params=ROUTES, ids=["-to-".join(route) for route in ROUTES])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Registry]]:
    """A registry that is full and one that is empty."""
    with ExitStack() as stack:
        opened = []
        for kind, name in zip(request.param, ("source", "target"), strict=True):
            url = f"sqlite:///{tmp_path}/{name}/registry.db"
            if kind == "postgresql":
                url = stack.enter_context(request.getfixturevalue("postgres").database())
            registry = Registry.open(url, tmp_path / name / "artifacts")
            stack.callback(registry.close)
            opened.append(registry)
        fill(opened[0], tmp_path)
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


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The tenant acme of a registry like `source`."""
    folder = tmp_path_factory.mktemp("archive")
    opened = Registry.open(f"sqlite:///{folder}/r.db", folder / "artifacts")
    fill(opened, folder)
    content = exported(opened)
    opened.close()
    return content


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def exported(registry: Registry, tenant: str = "acme") -> bytes:
    archive = registry.export_tenant(tenant)
    content = b"".join(archive)
    archive.close()
    assert len(content) == archive.size_bytes
    return content


def imported(registry: Registry, content: bytes, work: Path, **said: Any) -> Tenant:
    settings: dict[str, Any] = {
        "base": BASE,
        "base_name": "base",
        "max_rank": 16,
        "max_weights_bytes": 2**20,
        "actor": ADMIN,
    }
    return registry.import_tenant(io.BytesIO(content), work_dir=work, **(settings | said))


def documents(content: bytes) -> dict[str, Any]:
    return {
        name: json.loads(member)
        for name, member in unpack(content).items()
        if name.startswith(("tenant", "adapters"))
    }


def test_a_tenant_goes_round_with_all_its_life(ends: list[Registry], work: Path) -> None:
    source, target = ends
    content = exported(source)
    tenant = imported(target, content, work)
    assert documents(exported(target)) == documents(content)
    assert tenant == target.snapshot().tenants["acme"]
    assert tenant.policy == source.snapshot().tenants["acme"].policy
    for name, adapter in source.snapshot().tenants["acme"].adapters.items():
        assert target.history("acme", name) == source.history("acme", name)
        for number, version in adapter.versions.items():
            assert _same(target.version("acme", name, number).version) == _same(version)
            target.artifacts.verify(version.digest)
    assert list(work.iterdir()) == []


def _same(version: Version) -> tuple[object, ...]:
    return (version.label, version.digest, version.state, version.verdict, version.proof,
            version.profile, version.created_at, version.warnings, version.rank)  # fmt: skip


def test_its_life_goes_on_where_it_was(ends: list[Registry], work: Path, tmp_path: Path) -> None:
    source, target = ends
    imported(target, exported(source), work)
    assert target.rollback("acme", "support", actor=ADMIN).live == 2
    assert push(target, tmp_path, 9).number == 5
    assert push(target, tmp_path, 9, adapter="sales").number == 2
    assert target.revision() == 4 == len(target.audit())
    assert target.collect_garbage(grace=timedelta(0), actor=ADMIN).removed == ()
    assert target.verify_artifacts().damaged == ()


def test_an_archive_holds_no_key(source: Registry, target: Registry, work: Path) -> None:
    content = exported(source)
    for key in source.snapshot().keys.values():
        assert key.id.encode() not in content
        assert key.secret_sha256 not in content
        assert key.secret_sha256.hex().encode() not in content
    imported(target, content, work)
    assert target.snapshot().keys == {}


def test_it_may_come_under_another_name(
    archive: bytes, source: Registry, target: Registry, work: Path
) -> None:
    imported(target, archive, work, name="acme-2", actor="admin", reason="moved")
    assert set(target.snapshot().tenants) == {"acme-2"}
    (entry,) = target.audit()
    assert (entry.action, entry.tenant, entry.actor) == ("tenant.import", "acme-2", "admin")
    assert entry.detail["archived_as"] == "acme"
    assert entry.detail["reason"] == "moved"
    imported(source, archive, work, name="twin")
    assert {"acme", "twin", "globex"} <= set(source.snapshot().tenants)


def test_what_lies_there_already_is_stored_once(source: Registry, work: Path) -> None:
    before = sorted(content.digest for content in source.artifacts.contents())
    imported(source, exported(source), work, name="twin")
    assert sorted(content.digest for content in source.artifacts.contents()) == before


def test_a_deleted_tenant_comes_back_as_a_new_one(source: Registry, work: Path) -> None:
    content, before = exported(source), source.snapshot().tenants["acme"]
    source.delete_tenant("acme", actor=ADMIN)
    imported(source, content, work)
    after = source.snapshot().tenants["acme"]
    for name, adapter in before.adapters.items():
        assert after.adapters[name].versions == adapter.versions
        assert after.adapters[name].revision > adapter.revision
    assert source.snapshot().keys == {}


def test_a_number_never_means_two_contents(
    source: Registry, target: Registry, work: Path, tmp_path: Path
) -> None:
    target.create_tenant("acme", actor=ADMIN)
    for seed in range(20, 26):
        push(target, tmp_path, seed)
    target.delete_tenant("acme", actor=ADMIN)
    before = target.snapshot(), target.audit()
    with pytest.raises(AlreadyExists, match=r"earlier tenant 'acme' had another support@1"):
        imported(target, exported(source), work)
    assert (target.snapshot(), target.audit()) == before
    assert imported(target, exported(source), work, name="acme-2").name == "acme-2"


def test_an_unknown_or_deleted_tenant_is_not_exported(source: Registry) -> None:
    for name in ("nobody", "gone"):
        with pytest.raises(UnknownTenant):
            source.export_tenant(name)


def test_an_empty_tenant_travels_too(target: Registry, work: Path) -> None:
    target.create_tenant("bare", actor=ADMIN)
    imported(target, exported(target, "bare"), work, name="bare-2")
    assert target.snapshot().tenants["bare-2"].adapters == {}


def test_a_damaged_artifact_leaves_the_archive_unfinished(source: Registry, work: Path) -> None:
    version = source.snapshot().tenants["acme"].adapters["support"].versions[3]
    weights = bytearray((version.path / WEIGHTS_FILE).read_bytes())
    weights[-1] ^= 1
    (version.path / WEIGHTS_FILE).write_bytes(weights)
    sent, reason = sent_until_broken(source.export_tenant("acme"))
    assert "is damaged" in reason
    with pytest.raises(InvalidArchive):
        imported(source, sent, work, name="twin")
    (version.path / WEIGHTS_FILE).unlink()
    with pytest.raises(StorageError, match="cannot be read"):
        source.export_tenant("acme")


def test_every_column_of_a_version_and_of_a_move_travels() -> None:
    assert VersionForm.model_fields.keys() == set(versions.c.keys()) - {"adapter_id"}
    assert MoveForm.model_fields.keys() == set(history.c.keys()) - {"id", "adapter_id"}


def test_warnings_are_those_of_the_base_that_serves_now(
    archive: bytes, target: Registry, work: Path
) -> None:
    other = BASE.model_copy(update={"name": "Another/Base", "quantization": "fp8"})
    imported(target, archive, work, base=other)
    found = target.version("acme", "support", 4)
    assert any("Base" in warning for warning in found.version.warnings)
    assert any("nf4" in warning for warning in found.version.warnings)
    assert found.lineage.recipe == LINEAGE.recipe
    assert target.version("acme", "support", 3).evaluation == PASSED


# What is refused, whole


def _edit(file: str, **changes: Any) -> Callable[[bytes], bytes]:
    return lambda content: edited(content, file, **changes)


def _version(place: int, **changes: Any) -> Callable[[bytes], bytes]:
    """A change of one version of `support`: 1 is deleted, 2 retired, 3 live, 4 a candidate."""

    def edit(content: bytes) -> bytes:
        found = json.loads(unpack(content)[SUPPORT])["versions"]
        found[place - 1] |= changes
        return edited(content, SUPPORT, versions=found)

    return edit


def _move(**changes: Any) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        found = json.loads(unpack(content)[SUPPORT])["history"]
        found[-1] |= changes
        return edited(content, SUPPORT, history=found)

    return edit


def _without(prefix: str) -> Callable[[bytes], bytes]:
    def drop(content: bytes) -> bytes:
        members = unpack(content)
        name = next(name for name in members if name.startswith(prefix))
        del members[name]
        return pack(members)

    return drop


def _with(name: str, added: bytes) -> Callable[[bytes], bytes]:
    return lambda content: pack({name: added, **unpack(content)})


def _raw(name: str, made: bytes) -> Callable[[bytes], bytes]:
    return lambda content: pack(unpack(content) | {name: made})


def _flipped(content: bytes) -> bytes:
    """The digests in the manifest fit, the one in the folder's name does not."""
    members = unpack(content)
    name = next(name for name in members if name.endswith(WEIGHTS_FILE))
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])
    return pack(members)


def _fitting_no_base(content: bytes) -> bytes:
    """Everything agrees, and the live version is of another base."""
    other = BaseModelSpec.model_validate(
        tiny_base().model_dump()
        | {"modules": {"model.layers.0.self_attn.q_proj": _linear(8), "lm_head": _linear(8)}}
    )
    return _replaced(content, other)


def _linear(width: int) -> dict[str, Any]:
    return {"kind": "linear", "out_features": width, "in_features": width}


def _replaced(content: bytes, base: BaseModelSpec, **config: Any) -> bytes:
    """Version 3 with other files, of which everything else tells the truth."""
    members = unpack(content)
    document = json.loads(members[SUPPORT])
    digest = document["versions"][2]["digest"]
    with tempfile.TemporaryDirectory() as folder:
        good_adapter(Path(folder), base, seed=77, **config)
        files = {name: (Path(folder) / name).read_bytes() for name in FILES}
    hashes = {name: hashlib.sha256(file).hexdigest() for name, file in files.items()}
    made = content_digest(hashes)
    document["versions"][2] |= {"digest": made, "files": hashes}
    members[SUPPORT] = json.dumps(document).encode()
    kept = {name: file for name, file in members.items() if digest not in name}
    return pack({f"artifacts/{made}/{name}": file for name, file in files.items()} | kept)


BAD: dict[str, tuple[Callable[[bytes], bytes], type[RegistryError], str]] = {
    "cut off": (lambda content: content[: len(content) // 2], InvalidArchive, "cut off"),
    "a backup": (lambda content: pack(unpack(content), kind="backup"), InvalidArchive, "backup"),
    "a strange file": (_with("artifacts/../../x", b""), InvalidArchive, "no member"),
    "a key": (_with("keys.json", b"[]"), InvalidArchive, "no member"),
    "no tenant": (_without("tenant.json"), InvalidArchive, "tenant.json' is missing"),
    "no weights": (_without("artifacts/"), InvalidArchive, "do not have its digest|missing"),
    "artifact of nobody": (_without("adapters/sales"), InvalidArchive, "no version has"),
    "other weights": (_flipped, InvalidArchive, "do not have its digest"),
    "of another base": (_fitting_no_base, InvalidAdapter, r"support@3: .*shape"),
    "rank too high": (
        lambda content: _replaced(content, BASE, rank=32),
        InvalidAdapter,
        "support@3: .*rank|support@3: .*r:",
    ),
    "code to run": (
        lambda content: _replaced(content, BASE, auto_map={"AutoModel": "x.Y"}),
        InvalidAdapter,
        "auto_map",
    ),
    "not JSON": (_raw(SUPPORT, b"{"), InvalidArchive, "is not JSON"),
    "NaN": (_raw("tenant.json", b'{"name": NaN}'), InvalidArchive, "is not JSON"),
    "too deep": (_raw("tenant.json", b"[" * 100_000), InvalidArchive, "is not JSON"),
    "unknown field": (_edit("tenant.json", limits={}), InvalidArchive, "limits"),
    "bad name": (_edit("tenant.json", name="../acme"), InvalidName, "must match"),
    "another adapter's": (_edit(SUPPORT, name="sales"), InvalidArchive, "its folder"),
    "the base's name": (
        lambda content: pack(
            {name.replace("sales", "base"): member for name, member in unpack(content).items()}
            | {
                "adapters/base/adapter.json": unpack(content)[SALES].replace(
                    b'"name": "sales"', b'"name": "base"'
                )
            }
        ),
        InvalidArchive,
        "name of the base model",
    ),
    "two live ones": (_version(2, state="live"), InvalidArchive, "live: must be the one"),
    "none live": (_edit(SUPPORT, live=None), InvalidArchive, "live: must be the one"),
    "live without a promotion": (
        lambda content: edited(content, SUPPORT, history=[]),
        InvalidArchive,
        "history leads to",
    ),
    "a pass nobody gave": (_version(4, state="passed"), InvalidArchive, "version 4: verdict"),
    "a verdict of nobody": (_version(2, verdict="passed"), InvalidArchive, "version 2: verdict"),
    "a proof of nobody": (
        _version(2, proof_state="proved"), InvalidArchive, "version 2: proof_state"
    ),
    "an unknown state": (_version(4, state="canary"), InvalidArchive, r"versions\.3\.state"),
    "a number twice": (_version(4, number=3), InvalidArchive, "numbers that rise"),
    "a number of zero": (_version(1, number=0), InvalidArchive, r"versions\.0\.number"),
    "a number as text": (_version(4, number="4"), InvalidArchive, r"versions\.3\.number"),
    "a number to come": (_edit(SUPPORT, next_number=4), InvalidArchive, "next_number"),
    "a giant number": (_edit(SUPPORT, next_number=2**40), InvalidArchive, "next_number"),
    "a parent of nobody": (
        _version(4, lineage={"parent": 9}), InvalidArchive, "version 4: lineage.parent"
    ),
    "deleted and not": (
        _version(1, deleted_at=None), InvalidArchive, "version 1: deleted_at"
    ),
    "an empty stop": (
        _version(3, profile={"stop": [""]}), InvalidArchive, "version 3: stop"
    ),
    "a time without a zone": (
        _version(3, created_at="2026-01-01T00:00:00"), InvalidArchive, "created_at"
    ),
    "a strange actor": (_move(actor="x'); --"), InvalidArchive, "actor"),
    "a long reason": (_move(reason="x" * 3000), InvalidArchive, r"history\.\d+: reason"),
    "a move from nowhere": (_move(from_version=9), InvalidArchive, "not there"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive_is_refused_whole(
    name: str, archive: bytes, target: Registry, work: Path, tmp_path: Path
) -> None:
    spoil, error, said = BAD[name]
    target.create_tenant("other", actor=ADMIN)
    before = target.snapshot(), target.audit(), _files(tmp_path / "target" / "artifacts")
    with pytest.raises(error, match=said) as refused:
        imported(target, spoil(archive), work)
    assert str(tmp_path) not in refused.value.message
    assert refused.value.field
    assert (target.snapshot(), target.audit(), _files(tmp_path / "target" / "artifacts")) == before
    assert list(work.iterdir()) == []


def _files(folder: Path) -> list[str]:
    return sorted(str(file) for file in folder.rglob("*"))


def test_a_name_that_is_taken_is_refused_before_anything_is_stored(
    archive: bytes, target: Registry, work: Path
) -> None:
    target.create_tenant("acme", actor=ADMIN)
    with pytest.raises(AlreadyExists, match="under another name"):
        imported(target, archive, work)
    assert list(target.artifacts.contents()) == []
    with pytest.raises(InvalidName):
        imported(target, archive, work, name="Acme")


def test_weights_are_capped_as_in_a_push(archive: bytes, target: Registry, work: Path) -> None:
    with pytest.raises(InvalidArchive, match="larger than 1000 bytes"):
        imported(target, archive, work, max_weights_bytes=1000)


def test_an_export_is_of_one_moment(source: Registry, tmp_path: Path) -> None:
    """While versions come, go live and go: what is read makes sense in itself, every time."""
    ended = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
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

    writer = threading.Thread(target=work)
    writer.start()
    seen: list[AdapterForm] = []
    while not ended.is_set():
        content = io.BytesIO(exported(source))
        archive = ReadArchive(content, Kind.TENANT, lambda name: most_bytes(name, 2**20))
        _, forms = read_tenant(archive)
        (support,) = [form for form in forms if form.name == "support"]
        seen.append(support)
        digests = {version.digest for version in support.versions if version.lives}
        assert all(any(digest in name for name in archive.names) for digest in digests)
    writer.join(DEADLINE_S)
    assert not failed
    assert [len(form.history) for form in seen] == sorted(len(form.history) for form in seen)
    assert len(seen) > 1
