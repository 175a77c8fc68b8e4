"""The Makefile: what it offers, that a set-up is done once, and again where it was interrupted."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {"setup", "demo", "serve", "test", "lint", "bench", "clean", "help"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The Makefile in a folder where setting up only writes down that it happened."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(ROOT / "scripts" / "find-accelerator.sh", scripts)
    _program(scripts / "check-libraries.sh", "exit 0")
    _program(scripts / "install-requirements.sh", "exit 0")
    _program(
        scripts / "setup.sh",
        'echo "$2" >> setups; mkdir -p "$1/bin"; [ ! -e interrupted ] || exit 130\n'
        'printf "#!/bin/bash\\necho loraplex \\$*" > "$1/bin/loraplex"; chmod +x "$1/bin/loraplex"',
    )
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "cpu.txt").touch()
    return tmp_path


def _program(file: Path, body: str) -> None:
    file.write_text(f"#!/bin/bash\n{body}\n")
    file.chmod(0o755)


def _make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=inherited | {"ACCEL": "cpu"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def _setups(folder: Path) -> int:
    file = folder / "setups"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_make_alone_lists_every_target(project: Path) -> None:
    result = _make(project)
    assert set(re.findall(r"^  make ([a-z]+) +\S", result.stdout, flags=re.M)) == TARGETS
    assert _setups(project) == 0


def test_a_set_up_is_done_once(project: Path) -> None:
    assert _make(project, "setup").returncode == 0
    assert _make(project, "setup").returncode == 0
    assert _setups(project) == 1


def test_an_interrupted_set_up_is_done_again(project: Path) -> None:
    (project / "interrupted").touch()
    assert _make(project, "setup").returncode != 0
    (project / "interrupted").unlink()
    assert _make(project, "setup").returncode == 0
    assert _setups(project) == 2


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements/cpu.txt"])
def test_a_changed_requirement_is_installed(project: Path, changed: str) -> None:
    _make(project, "setup")
    stamp = project / ".venv" / ".setup-cpu"
    after_ns = stamp.stat().st_mtime_ns + 1_000_000_000
    os.utime(project / changed, ns=(after_ns, after_ns))
    _make(project, "setup")
    assert _setups(project) == 2


def test_another_accelerator_is_another_set_up(project: Path) -> None:
    _make(project, "setup")
    _make(project, "setup", "ACCEL=cuda")
    assert (project / "setups").read_text().split() == ["cpu", "cuda"]


def test_an_unknown_accelerator_stops_everything(project: Path) -> None:
    result = _make(project, "setup", "ACCEL=rocm")
    assert result.returncode != 0
    assert "cpu or cuda, not 'rocm'" in result.stderr
    assert _setups(project) == 0


@pytest.mark.parametrize("target", ["setup", "demo", "serve", "test"])
def test_a_missing_library_stops_before_anything_is_installed(project: Path, target: str) -> None:
    _program(
        project / "scripts" / "check-libraries.sh", "echo 'libnuma.so.1 is missing' >&2; exit 1"
    )
    result = _make(project, target)
    assert result.returncode != 0
    assert "libnuma.so.1 is missing" in result.stderr
    assert _setups(project) == 0


@pytest.mark.parametrize("target", ["demo", "serve"])
def test_a_target_sets_up_and_runs_the_command_with_its_arguments(
    project: Path, target: str
) -> None:
    result = _make(project, target, "ARGS=--json")
    assert result.returncode == 0, result.stderr
    assert f"loraplex {target} --json" in result.stdout
    assert _setups(project) == 1


def test_bench_says_that_there_is_none(project: Path) -> None:
    (project / "benchmarks").mkdir()
    result = _make(project, "bench")
    assert result.returncode == 0
    assert "there is no benchmark yet" in result.stdout


def test_bench_fails_with_a_benchmark_that_fails(project: Path) -> None:
    (project / "benchmarks").mkdir()
    (project / "benchmarks" / "first.py").touch()
    (project / "benchmarks" / "second.py").touch()
    _make(project, "setup")
    _program(project / ".venv" / "bin" / "python", 'echo "ran $1"; [ "$1" != benchmarks/first.py ]')
    result = _make(project, "bench")
    assert result.returncode != 0
    assert "ran benchmarks/first.py" in result.stdout
    assert "ran benchmarks/second.py" not in result.stdout


def test_clean_removes_what_was_built_and_nothing_else(project: Path) -> None:
    kept = ["data/registry.db", "gateway/app.py", ".demo/keys", "requirements/cpu.txt"]
    built = [".venv/bin/x", "build/x", "dist/x", "loraplex.egg-info/x", "gateway/__pycache__/x"]
    for name in kept + built:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    assert _make(project, "clean").returncode == 0
    assert [name for name in kept if not (project / name).exists()] == []
    assert [name for name in built if (project / name).parent.exists()] == []
