"""Staging folders: private, gone after use, swept when their process is dead and never before."""

import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from adapters_registry.staging import Staging

_LEAVES_ONE_BEHIND = """
import os, sys
from pathlib import Path
from adapters_registry.staging import Staging

made = Staging(Path(sys.argv[1])).make()
(made.path / "half").write_bytes(bytes(5000))
print(made.path.name, flush=True)
sys.stdin.read()
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path / "staging")


def _names(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "staging").iterdir()}


def test_a_folder_is_private_and_gone_after_the_block(staging: Staging, tmp_path: Path) -> None:
    with staging.folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "file").write_bytes(b"x")
    assert _names(tmp_path) == set()


def test_what_the_block_moves_away_stays(staging: Staging, tmp_path: Path) -> None:
    with staging.folder() as folder:
        folder.rename(tmp_path / "kept")
    assert (tmp_path / "kept").is_dir()


def test_a_sweep_takes_what_a_dead_process_left_and_spares_the_living(
    staging: Staging, tmp_path: Path
) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", _LEAVES_ONE_BEHIND, str(tmp_path / "staging")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    theirs = other.stdout.readline().strip()
    ours = staging.make()
    assert staging.sweep() == 0
    assert _names(tmp_path) == {theirs, ours.path.name}
    other.communicate()
    assert staging.sweep() == 5000
    assert _names(tmp_path) == {ours.path.name}
    ours.remove()


def test_removing_twice_is_harmless(staging: Staging, tmp_path: Path) -> None:
    made = staging.make()
    made.remove()
    made.remove()
    assert _names(tmp_path) == set()


def test_a_sweep_of_nothing_makes_nothing(staging: Staging, tmp_path: Path) -> None:
    assert staging.sweep() == 0
    assert not (tmp_path / "staging").exists()


def test_sweeps_never_take_a_folder_that_is_just_being_made(staging: Staging) -> None:
    """Makers and sweepers race; every maker finds its folder as it left it."""
    done = threading.Event()
    lost: list[Path] = []

    def sweep() -> None:
        while not done.is_set():
            staging.sweep()

    def make() -> None:
        for _ in range(200):
            with staging.folder() as folder:
                (folder / "file").touch()
                if not (folder / "file").exists():
                    lost.append(folder)

    sweeper = threading.Thread(target=sweep)
    makers = [threading.Thread(target=make) for _ in range(4)]
    for thread in (sweeper, *makers):
        thread.start()
    for thread in makers:
        thread.join()
    done.set()
    sweeper.join()
    assert lost == []
