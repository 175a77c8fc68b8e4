"""`loraplex backup` of a running gateway and `loraplex restore` into a new data dir."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adapters_registry.registry import Registry
from loraplex.cli import app
from tests.archives_for_tests import unpack
from tests.fake_engine import FakeEngine
from tests.running_gateway import ADMIN_KEY, BASE, RunningGateway, TinyModel, running_gateway


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel
) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("backup")
    engine = FakeEngine.start("--served-model-name", BASE)
    try:
        with running_gateway(engine, folder, tiny_model) as running:
            running.push(folder / "one")
            yield running
    finally:
        engine.stop()


def run(*words: object, url: str = "http://127.0.0.1:1") -> Result:
    environment = {"LORAPLEX_URL": url, "LORAPLEX_KEY": ADMIN_KEY}
    return CliRunner().invoke(app, [str(word) for word in words], env=environment)


def opened(data_dir: Path) -> Registry:
    return Registry.open(f"sqlite:///{data_dir}/registry.db", data_dir / "artifacts")


def test_everything_into_a_file_and_back(gateway: RunningGateway, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    made = run("backup", file, url=gateway.url)
    assert made.exit_code == 0, made.output
    assert "1 tenant, 1 adapter, 1 version and 1 artifact " in made.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
    back = run("restore", file, "--data-dir", tmp_path / "new", "--json")
    assert back.exit_code == 0, back.output
    assert json.loads(back.stdout) == {
        "tenants": 1, "adapters": 1, "versions": 1, "artifacts": 1
    }  # fmt: skip
    registry = opened(tmp_path / "new")
    assert registry.snapshot().tenants["acme"].adapters["support"].live == 1
    assert registry.verify_artifacts().damaged == ()
    registry.close()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "new" / "admin.key").exists()
    again = run("restore", file, "--data-dir", tmp_path / "new")
    assert (again.exit_code, "not empty" in again.stderr) == (1, True)


def test_a_file_is_replaced_only_by_force(gateway: RunningGateway, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    file.write_text("precious")
    refused = run("backup", file, url=gateway.url)
    assert (refused.exit_code, "--force" in refused.stderr) == (2, True)
    assert file.read_text() == "precious"
    done = run("backup", file, "--force", "--json", url=gateway.url)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["size_bytes"] == file.stat().st_size
    assert "manifest.json" in unpack(file.read_bytes())


def test_a_backup_that_fails_leaves_no_file(gateway: RunningGateway, tmp_path: Path) -> None:
    away = run("backup", tmp_path / "backup.tar")
    assert (away.exit_code, "cannot reach" in away.stderr) == (1, True)
    weights = next((gateway.log_file.parent / "data" / "artifacts").rglob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        torn = run("backup", tmp_path / "backup.tar", url=gateway.url)
    finally:
        weights.write_bytes(whole)
    assert (torn.exit_code, "broke off" in torn.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [".", "missing/backup.tar"])
def test_a_place_that_is_none_is_refused_first(tmp_path: Path, place: str) -> None:
    assert run("backup", tmp_path / place).exit_code == 2


def test_a_torn_or_missing_file_is_not_restored(gateway: RunningGateway, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    assert run("backup", file, url=gateway.url).exit_code == 0
    file.write_bytes(file.read_bytes()[:-2000])
    torn = run("restore", file, "--data-dir", tmp_path / "new")
    assert (torn.exit_code, "cut off" in torn.stderr) == (1, True)
    missing = run("restore", tmp_path / "none.tar", "--data-dir", tmp_path / "other")
    assert (missing.exit_code, "No such file" in missing.stderr) == (1, True)
    assert not (tmp_path / "other").exists()


def test_a_backup_while_adapters_are_pushed(gateway: RunningGateway, tmp_path: Path) -> None:
    ended = threading.Event()

    def push() -> None:
        try:
            for number in range(4):
                gateway.push(tmp_path / f"adapter-{number}", adapter="busy")
        finally:
            ended.set()

    writer = threading.Thread(target=push)
    writer.start()
    files: list[Path] = []
    while not ended.is_set():
        files.append(tmp_path / f"backup-{len(files)}.tar")
        assert run("backup", files[-1], url=gateway.url).exit_code == 0
    writer.join()
    for number, file in enumerate(files[:: max(1, len(files) // 3)]):
        data_dir = tmp_path / f"copy-{number}"
        assert run("restore", file, "--data-dir", data_dir).exit_code == 0
        registry = opened(data_dir)
        assert registry.verify_artifacts().damaged == ()
        for adapter in registry.snapshot().tenants["acme"].adapters.values():
            moves = registry.history("acme", adapter.name)
            promoted = [move.to_version for move in moves if move.action == "promote"]
            assert adapter.live == (promoted[0] if promoted else None)
        registry.close()
