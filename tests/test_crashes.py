"""The registry's process is killed: at every step of every call, then anywhere under load.

What must hold each time: nothing that was acknowledged is lost, nothing is there by half, the
database is whole, and after a garbage collection the store holds what versions refer to, undamaged,
and nothing else.
"""

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_registry.registry import Registry
from adapters_registry.types import AuditEntry, HistoryEntry, Snapshot, VersionState
from gateway.config import load_settings
from gateway.preflight import pick_port
from tests.adapters_for_tests import good_adapter
from tests.busy_registry import ADMIN, BASE, push
from tests.fake_engine import FakeEngine
from tests.running_gateway import ADMIN_KEY, TinyModel
from tests.running_gateway import BASE as SERVED

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("LORAPLEX_TEST_KILLS", "10"))
DEADLINE_S = 60.0


@dataclass
class Helper:
    """A program of the tests that answers a line with a line."""

    process: subprocess.Popen[str]

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> str:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        assert answer, "the helper ended"
        return answer


def _helper(module: str) -> Iterator[Helper]:
    with subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Helper(process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def child() -> Iterator[Helper]:
    yield from _helper("tests.crash_child")


@pytest.fixture(scope="module")
def forks() -> Iterator[Helper]:
    yield from _helper("tests.gateway_forks")


@dataclass(frozen=True)
class Picture:
    """All that a registry tells."""

    revision: int
    snapshot: Snapshot
    audit: list[AuditEntry]
    history: dict[tuple[str, str], list[HistoryEntry]]


def picture(registry: Registry) -> Picture:
    snapshot = registry.snapshot()
    return Picture(
        registry.revision(),
        snapshot,
        _whole_audit(registry),
        {
            (tenant.name, name): registry.history(tenant.name, name)
            for tenant in snapshot.tenants.values()
            for name in tenant.adapters
        },
    )


def _whole_audit(registry: Registry) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    while page := registry.audit(limit=1000, before=entries[-1].id if entries else None):
        entries += page
    return entries


@dataclass
class Patient:
    """A registry whose processes are killed, looked at from outside."""

    child: Helper
    url: str
    folder: Path
    registry: Registry
    seed: int = 100
    steps: dict[str, list[str]] = field(default_factory=dict)

    def make(self, call: str, kill: int | None, after: bool, **given: Any) -> dict[str, Any]:
        order = {
            "url": self.url,
            "artifacts": str(self.folder / "artifacts"),
            "call": call,
            "given": given,
            "kill": kill,
            "after": after,
        }
        # Nobody else has the database open, so what a killed one left is recovered from the disk.
        self.registry.close()
        answer: dict[str, Any] = json.loads(self.child.ask(json.dumps(order)))
        return answer

    def new_folder(self) -> Path:
        self.seed += 1
        return good_adapter(self.folder / "in" / str(self.seed), BASE, seed=self.seed)

    def new_version(self) -> int:
        self.seed += 1
        return push(self.registry, self.folder / "in", self.seed).number

    def check_whole(self) -> None:
        """The database is whole, and each version that is there is there with its files."""
        if self.url.startswith("sqlite"):
            check_sqlite(Path(self.url.removeprefix("sqlite:///")))
        for tenant in self.registry.snapshot().tenants.values():
            for adapter in tenant.adapters.values():
                live = [
                    number
                    for number, version in adapter.versions.items()
                    if version.state is VersionState.LIVE
                ]
                assert live == ([] if adapter.live is None else [adapter.live])
                for version in adapter.versions.values():
                    self.registry.artifacts.verify(version.digest)

    def check_clean(self) -> None:
        check_clean(self.registry, self.folder / "artifacts")


def check_sqlite(file: Path) -> None:
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def check_clean(registry: Registry, artifacts: Path) -> None:
    """After a garbage collection there is what versions refer to, undamaged, and nothing else."""
    registry.collect_garbage(grace=timedelta(0), actor=ADMIN)
    verified = registry.verify_artifacts()
    assert verified.damaged == ()
    files = [file for file in artifacts.rglob("*") if file.is_file()]
    assert len(files) == 2 * verified.checked


@pytest.fixture
def patient(child: Helper, database_url: str, tmp_path: Path) -> Iterator[Patient]:
    registry = Registry.open(database_url, tmp_path / "artifacts")
    registry.create_tenant("acme", actor=ADMIN)
    found = Patient(child, database_url, tmp_path, registry)
    for _ in range(3):
        registry.promote("acme", "support", found.new_version(), actor=ADMIN, force=True)
    yield found
    registry.close()


def at_every_step(
    patient: Patient,
    call: str,
    given: Callable[[], dict[str, Any]],
    *,
    kinds: set[str],
    rows: int = 1,
) -> None:
    """Makes the call again and again, each time killed at the next step, before it and after it.

    given: prepares the registry and gives the call's arguments. kinds: the steps it must take.
    rows: how many rows of history a whole call leaves.
    """
    dry = patient.make(call, None, False, **given())
    assert (dry["acknowledged"], dry["killed"]) == (True, False), dry
    assert set(dry["steps"]) >= kinds
    for place, name in enumerate(dry["steps"]):
        for after in (False, True):
            said = given()
            before = picture(patient.registry)
            outcome = patient.make(call, place, after, **said)
            where = f"{call}: {'after' if after else 'before'} {name} {place}"
            assert outcome["killed"], (where, outcome)
            assert not outcome["acknowledged"], where
            check_all_or_nothing(before, picture(patient.registry), rows, where)
            patient.check_whole()
    before = picture(patient.registry)
    done = patient.make(call, None, False, **given())
    assert done["acknowledged"], done
    assert picture(patient.registry).revision > before.revision
    patient.check_clean()


def check_all_or_nothing(before: Picture, after: Picture, rows: int, where: str) -> None:
    changed = after.revision - before.revision
    assert changed in (0, 1), where
    if not changed:
        assert after == before, where
        return
    assert after.audit[1:] == before.audit, where
    told = sum(map(len, after.history.values())) - sum(map(len, before.history.values()))
    assert told == rows, where


def test_a_push_killed_at_every_step(patient: Patient) -> None:
    at_every_step(
        patient,
        "push",
        lambda: {"folder": str(patient.new_folder())},
        kinds={"fsync", "rename", "commit"},
    )


def test_a_push_of_known_content_killed_at_every_step(patient: Patient) -> None:
    patient.new_version()
    folder = str(patient.folder / "in" / f"adapter-{patient.seed}")
    at_every_step(patient, "push", lambda: {"folder": folder}, kinds={"fsync", "commit"})


def test_a_promotion_killed_at_every_step(patient: Patient) -> None:
    at_every_step(patient, "promote", lambda: {"version": patient.new_version()}, kinds={"commit"})


def test_a_rollback_killed_at_every_step(patient: Patient) -> None:
    def promoted() -> dict[str, Any]:
        patient.registry.promote("acme", "support", patient.new_version(), actor=ADMIN, force=True)
        return {}

    at_every_step(patient, "rollback", promoted, kinds={"commit"})


def test_a_deletion_killed_at_every_step(patient: Patient) -> None:
    at_every_step(patient, "delete", lambda: {"version": patient.new_version()}, kinds={"commit"})


def test_a_collection_killed_at_every_step(patient: Patient) -> None:
    def littered() -> dict[str, Any]:
        patient.registry.delete_version("acme", "support", patient.new_version(), actor=ADMIN)
        return {}

    at_every_step(patient, "collect", littered, kinds={"rename", "commit"}, rows=0)


def test_an_import_killed_at_every_step(patient: Patient, tmp_path: Path) -> None:
    file, work = tmp_path / "acme.tar", tmp_path / "work"
    work.mkdir()
    patient.registry.create_tenant("globex", actor=ADMIN)
    push(patient.registry, tmp_path / "in", 1, tenant="globex")
    patient.registry.promote("globex", "support", 1, actor=ADMIN, force=True)
    file.write_bytes(b"".join(patient.registry.export_tenant("globex")))
    names = iter(f"twin-{number}" for number in range(1000))
    at_every_step(
        patient,
        "import",
        lambda: {"file": str(file), "work": str(work), "name": next(names)},
        kinds={"fsync", "commit"},
        rows=2,
    )


def test_a_restore_killed_at_every_step(child: Helper, tmp_path: Path) -> None:
    """Into a new folder each time; what a killed one left does not keep the next from success."""
    source = Registry.open(f"sqlite:///{tmp_path}/source/r.db", tmp_path / "source" / "artifacts")
    source.create_tenant("acme", actor=ADMIN)
    for seed in (1, 2):
        version = push(source, tmp_path, seed).number
        source.promote("acme", "support", version, actor=ADMIN, force=True)
    work = tmp_path / "work"
    work.mkdir()
    archive = source.backup(work)
    (tmp_path / "backup.tar").write_bytes(b"".join(archive))
    archive.close()
    whole = picture(source)
    source.close()
    given = {"file": str(tmp_path / "backup.tar"), "work": str(work)}

    def into(name: str) -> Patient:
        folder = tmp_path / name
        url = f"sqlite:///{folder}/r.db"
        return Patient(child, url, folder, Registry.open(url, folder / "artifacts"))

    dry = into("dry")
    steps = dry.make("restore", None, False, **given)["steps"]
    assert set(steps) >= {"fsync", "rename", "commit"}
    dry.registry.close()
    for place in range(len(steps)):
        for after in (False, True):
            patient = into(f"target-{place}-{after}")
            assert patient.make("restore", place, after, **given)["killed"]
            patient.check_whole()
            if patient.registry.revision() == 0:
                assert patient.registry.snapshot().tenants == {}
                assert patient.make("restore", None, False, **given)["acknowledged"]
            found = picture(patient.registry)
            assert (found.revision, found.audit) == (whole.revision, whole.audit)
            assert _placeless(found.snapshot) == _placeless(whole.snapshot)
            patient.check_clean()
            patient.registry.close()
            shutil.rmtree(patient.folder)


def _placeless(snapshot: Snapshot) -> list[Any]:
    return [
        snapshot.keys,
        [
            replace(version, path=Path())
            for tenant in snapshot.tenants.values()
            for adapter in tenant.adapters.values()
            for version in adapter.versions.values()
        ],
    ]


# What the system is really asked to do


def test_everything_is_on_disk_before_a_push_is_acknowledged(tmp_path: Path) -> None:
    """Seen from outside: each file, its folder, its name, the name's folder, then the database."""
    if shutil.which("strace") is None:
        missing = "strace is not installed: apt-get install strace"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    url, artifacts = f"sqlite:///{tmp_path}/r.db", tmp_path / "artifacts"
    registry = Registry.open(url, artifacts)
    registry.create_tenant("acme", actor=ADMIN)
    registry.close()
    folder = good_adapter(tmp_path / "in", BASE)
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2"
    done = subprocess.run(
        ["strace", "-f", "-y", "-e", calls, "-o", trace, sys.executable, "-c", _PUSH_ONCE,
         url, artifacts, folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    digest = done.stdout.strip()
    target = artifacts / digest[:2] / digest
    lines = trace.read_text().splitlines()
    renamed = _only(lines, rf'rename\w*\(.*, "{target}"\) += 0')
    staged = re.findall(r'"([^"]+)"', lines[renamed])[0]
    steps = [
        _only(lines, rf"sync\(\d+<{staged}/adapter_config\.json>\) += 0"),
        _only(lines, rf"sync\(\d+<{staged}/adapter_model\.safetensors>\) += 0"),
        _only(lines, rf"sync\(\d+<{staged}>\) += 0"),
        renamed,
        _only(lines, rf"sync\(\d+<{target.parent}>\) += 0"),
    ]
    assert steps == sorted(steps)
    new_name = [_all(lines, rf"sync\(\d+<{artifacts}>\) += 0")[-1]]
    committed = _all(lines, rf"sync\(\d+<{tmp_path}/r\.db-wal>\) += 0")
    assert committed[-1] > max(steps + new_name)


def _all(lines: list[str], pattern: str) -> list[int]:
    return [place for place, line in enumerate(lines) if re.search(pattern, line)]


def _only(lines: list[str], pattern: str) -> int:
    (place,) = _all(lines, pattern)
    return place


# It ends without closing the database, which would sync that once more.
_PUSH_ONCE = """
import os, sys
from pathlib import Path
from adapters_registry.registry import Registry
from tests.busy_registry import BASE, ADMIN
from adapters_registry.types import ServingProfile

registry = Registry.open(sys.argv[1], Path(sys.argv[2]))
version = registry.push("acme", "support", Path(sys.argv[3]), base=BASE, max_rank=16,
                        profile=ServingProfile(), actor=ADMIN)
print(version.digest, flush=True)
os._exit(0)
"""


# A gateway under load


@dataclass
class Ledger:
    """What clients were told. Every write carries a reason of its own, which the registry keeps."""

    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reason(self) -> str:
        with self.lock:
            self.count += 1
            return f"write {self.count}"

    def reached(self, count: int) -> bool:
        return self.count >= count

    def note(self, reason: str, status: int | None) -> None:
        with self.lock:
            if status is None:
                self.unknown.add(reason)
            elif status < 300:
                self.acknowledged.add(reason)
            else:
                assert status in (404, 409, 412), status
                self.refused.add(reason)


class Writer(threading.Thread):
    """A client that writes until its gateway is gone."""

    def __init__(
        self, url: str, uploads: list[dict[str, bytes]], ledger: Ledger, seed: int
    ) -> None:
        super().__init__()
        self._url = f"{url}/admin/v1/tenants/"
        self._uploads = uploads
        self._ledger = ledger
        self._random = random.Random(seed)
        self.failed: BaseException | None = None

    def run(self) -> None:
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        with httpx.Client(headers=headers, timeout=30, trust_env=False) as http:
            try:
                while self._write(http):
                    pass
            except BaseException as error:
                self.failed = error

    def _write(self, http: httpx.Client) -> bool:
        """One call; whether the gateway is still there."""
        reason = self._ledger.reason()
        tenant, adapter = self._random.choice(("acme", "globex")), self._random.choice("ab")
        path = f"{self._url}{tenant}/adapters/{adapter}"
        number = self._random.randrange(1, 12)
        kind = self._random.choices(
            ("push", "promote", "rollback", "delete", "key"), (40, 25, 15, 10, 10)
        )[0]
        try:
            if kind == "push":
                metadata = json.dumps({"reason": reason}).encode()
                files = {**self._random.choice(self._uploads), "metadata.json": metadata}
                answer = http.post(f"{path}/versions", files=files)
            elif kind == "promote":
                body = {"version": number, "force": True, "reason": reason}
                answer = http.post(f"{path}/promote", json=body)
            elif kind == "rollback":
                answer = http.post(f"{path}/rollback", json={"reason": reason})
            elif kind == "delete":
                answer = http.delete(f"{path}/versions/{number}", params={"reason": reason})
            else:
                answer = http.post(f"{self._url}{tenant}/keys", json={"reason": reason})
        except httpx.TransportError:
            self._ledger.note(reason, None)
            return False
        self._ledger.note(reason, answer.status_code)
        return True


@dataclass
class Gateways:
    """Gateway processes, one after another, on one registry and a fake engine."""

    forks: Helper
    url: str
    settings_file: Path
    log_file: Path
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))

    def start(self) -> int:
        """The process, once it is ready."""
        pid = int(self.forks.ask(f"{self.settings_file} {self.log_file}"))
        self.wait_for(self._ready)
        return pid

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        assert self.forks.read() == "ended\n"

    def wait_for(self, holds: Callable[[], bool]) -> None:
        end_s = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < end_s, self.log_file.read_text()[-3000:]
            time.sleep(0.005)

    def _ready(self) -> bool:
        try:
            return self.http.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def gateways(
    forks: Helper, database_url: str, tiny_model: TinyModel, tmp_path: Path
) -> Iterator[Gateways]:
    fake = FakeEngine.start("--served-model-name", SERVED)
    port = pick_port("127.0.0.1")
    flags = {
        "port": port,
        "metrics_port": pick_port("127.0.0.1", [port]),
        "data_dir": tmp_path / "data",
        "database_url": database_url,
        "engine_url": [fake.url],
        "model": str(tiny_model.folder),
        "cache_dir": tiny_model.cache_dir,
        "served_name": SERVED,
    }
    document = load_settings(flags).model_dump(mode="json") | {"admin_key": ADMIN_KEY}
    settings_file = tmp_path / "settings.json"
    settings_file.write_text(json.dumps(document))
    found = Gateways(forks, f"http://127.0.0.1:{port}", settings_file, tmp_path / "gateway.log")
    yield found
    found.http.close()
    fake.stop()


def _uploads(folder: Path, model: TinyModel, count: int) -> list[dict[str, bytes]]:
    made = []
    for seed in range(count):
        path = good_adapter(folder / str(seed), model.spec, seed=seed)
        made.append({file.name: file.read_bytes() for file in path.iterdir()})
    return made


def test_a_gateway_killed_under_load_loses_nothing_it_acknowledged(
    gateways: Gateways, database_url: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    """LORAPLEX_TEST_KILLS: how often. The moments are random, from one seed."""
    moments = random.Random(20)
    uploads = _uploads(tmp_path / "uploads", tiny_model, 40)
    ledger = Ledger()
    artifacts = tmp_path / "data" / "artifacts"
    registry = Registry.open(database_url, artifacts)
    for tenant in ("acme", "globex"):
        registry.create_tenant(tenant, actor=ADMIN)
    for turn in range(KILLS):
        registry.close()
        pid = gateways.start()
        writers = [Writer(gateways.url, uploads, ledger, 4 * turn + place) for place in range(4)]
        for writer in writers:
            writer.start()
        moment = ledger.count + moments.randrange(5, 40)
        # Some writes later, and then at any point of one.
        gateways.wait_for(partial(ledger.reached, moment))
        time.sleep(moments.random() * 0.02)
        gateways.kill(pid)
        for writer in writers:
            writer.join(DEADLINE_S)
            assert writer.failed is None, writer.failed
        check_ledger(registry, ledger)
        if database_url.startswith("sqlite"):
            check_sqlite(Path(database_url.removeprefix("sqlite:///")))
    assert len(ledger.acknowledged) >= KILLS
    check_clean(registry, artifacts)
    registry.close()


def check_ledger(registry: Registry, ledger: Ledger) -> None:
    seen = picture(registry)
    audited = Counter(entry.detail["reason"] for entry in seen.audit if "reason" in entry.detail)
    audited.pop(None, None)
    assert max(audited.values(), default=1) == 1
    assert ledger.acknowledged <= audited.keys()
    assert not ledger.refused & audited.keys()
    assert audited.keys() <= ledger.acknowledged | ledger.unknown
    assert seen.revision == len(seen.audit)
    told = {move.reason for moves in seen.history.values() for move in moves if move.reason}
    moved = {
        entry.detail["reason"] for entry in seen.audit if entry.action.startswith("version.")
    } - {None}
    assert {reason for reason in told if reason.startswith("write")} == {
        reason for reason in moved if str(reason).startswith("write")
    }
    for tenant in seen.snapshot.tenants.values():
        for adapter in tenant.adapters.values():
            moves = seen.history[(tenant.name, adapter.name)]
            pushed = [move.to_version for move in moves if move.action == "push"]
            assert pushed == list(range(len(pushed), 0, -1))
            deleted = {move.from_version for move in moves if move.action == "delete"}
            assert set(adapter.versions) == set(pushed) - deleted
            led_to = [move.to_version for move in moves if move.action in ("promote", "rollback")]
            assert adapter.live == (led_to[0] if led_to else None)
