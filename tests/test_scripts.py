"""The shell scripts: they pick the right Python and accelerator, and name what is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"
SHELL_SCRIPTS = sorted(
    [*SCRIPTS.glob("*.sh"), *ROOT.glob("requirements/*.sh"), ROOT / ".ci" / "run"]
)


def _run(
    script: str, *arguments: str, path: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a script with `path` first on the PATH and these variables."""
    return subprocess.run(
        [SCRIPTS / script, *arguments],
        env=_environment(path) | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def _environment(path: Path | None) -> dict[str, str]:
    ours = {"PYTHON", "ACCEL", "CI", "GPU_FOLDER", "VIRTUAL_ENV"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | ({"PATH": f"{path}:{kept['PATH']}"} if path else {})


def _program(folder: Path, name: str, body: str) -> Path:
    """A program of this name that does what `body` says."""
    file = folder / name
    file.write_text(f"#!/bin/bash\n{body}\n")
    file.chmod(0o755)
    return file


def _tools(folder: Path, *names: str) -> Path:
    """A folder with these programs of the machine and no other."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return folder


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_each_script_parses_stops_at_errors_and_says_what_it_does(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith("# ")
    assert "set -euo pipefail" in lines
    assert os.access(script, os.X_OK)


def test_the_python_named_by_the_user_is_the_one_taken() -> None:
    assert _run("find-python.sh", PYTHON=sys.executable).stdout.strip() == sys.executable


def test_an_unfit_python_named_by_the_user_is_refused(tmp_path: Path) -> None:
    old = _program(tmp_path, "python3.8", "exit 1")
    result = _run("find-python.sh", PYTHON=str(old))
    assert result.returncode == 1
    assert "needs Python 3.11" in result.stderr
    assert str(old) in result.stderr


def test_a_shim_without_a_python_behind_it_is_passed_over(tmp_path: Path) -> None:
    tools = _tools(tmp_path / "bin", "bash", "env")
    _program(tools, "python3.13", "exit 127")
    (tools / "python3").symlink_to(sys.executable)
    result = _run("find-python.sh", PATH=str(tools))
    assert result.stdout.strip() == str(tools / "python3")


def test_a_machine_without_a_fit_python_is_told_what_to_do(tmp_path: Path) -> None:
    tools = _tools(tmp_path / "bin", "bash", "env")
    result = _run("find-python.sh", PATH=str(tools))
    assert result.returncode == 1
    assert "apt-get install python3" in result.stderr


def test_a_gpu_that_answers_makes_it_cuda(tmp_path: Path) -> None:
    _program(tmp_path, "nvidia-smi", "echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'")
    assert _run("find-accelerator.sh", path=tmp_path).stdout.strip() == "cuda"


def test_a_gpu_known_to_the_driver_makes_it_cuda(tmp_path: Path) -> None:
    _program(tmp_path, "nvidia-smi", "exit 9")
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    result = _run("find-accelerator.sh", path=tmp_path, GPU_FOLDER=str(tmp_path / "gpus"))
    assert result.stdout.strip() == "cuda"


def test_without_a_gpu_it_is_cpu(tmp_path: Path) -> None:
    _program(tmp_path, "nvidia-smi", "echo 'No devices were found'; exit 6")
    result = _run("find-accelerator.sh", path=tmp_path, GPU_FOLDER=str(tmp_path / "none"))
    assert result.stdout.strip() == "cpu"


@pytest.mark.parametrize("accelerator", ["cpu", "cuda"])
def test_the_accelerator_can_be_decided(accelerator: str) -> None:
    assert _run("find-accelerator.sh", ACCEL=accelerator).stdout.strip() == accelerator


def test_another_accelerator_is_refused() -> None:
    result = _run("find-accelerator.sh", ACCEL="rocm")
    assert result.returncode == 2
    assert "cpu or cuda, not 'rocm'" in result.stderr


def _no_libraries(folder: Path) -> Path:
    """A folder with an `ldconfig` that knows no library."""
    _program(folder, "ldconfig", "exit 0")
    return folder


def _python_without(folder: Path, word: str) -> Path:
    """A Python that fails where its arguments hold `word`."""
    return _program(
        folder, "python", f'case "$*" in *{word}*) exit 1 ;; esac; exec {sys.executable} "$@"'
    )


def test_a_missing_libnuma_is_named_with_its_command(tmp_path: Path) -> None:
    python = str(_python_without(tmp_path, "libnuma"))
    result = _run("check-libraries.sh", "cpu", path=_no_libraries(tmp_path), PYTHON=python)
    assert result.returncode == 1
    assert "libnuma.so.1 is missing" in result.stderr
    assert "apt-get install libnuma1" in result.stderr


def test_a_libnuma_that_only_the_loader_finds_is_enough(tmp_path: Path) -> None:
    python = str(_program(tmp_path, "python", "exit 0"))
    result = _run("check-libraries.sh", "cpu", path=_no_libraries(tmp_path), PYTHON=python)
    assert result.returncode == 0


def test_libnuma_is_not_asked_of_a_gpu_machine(tmp_path: Path) -> None:
    _program(tmp_path, "cc", "exit 0")
    python = str(_python_without(tmp_path, "libnuma"))
    result = _run("check-libraries.sh", "cuda", path=_no_libraries(tmp_path), PYTHON=python)
    assert result.returncode == 0


def test_a_gpu_machine_without_a_compiler_is_told_what_to_do(tmp_path: Path) -> None:
    tools = _tools(tmp_path / "bin", "bash", "env", "dirname")
    result = _run("check-libraries.sh", "cuda", PATH=str(tools), PYTHON=sys.executable)
    assert result.returncode == 1
    assert "apt-get install gcc" in result.stderr


def test_a_python_that_makes_no_environments_is_named_with_its_command(tmp_path: Path) -> None:
    python = _python_without(tmp_path, "ensurepip")
    venv = tmp_path / "venv"
    result = _run("install-requirements.sh", str(venv), "cpu", PYTHON=str(python))
    assert result.returncode == 1
    assert f"apt-get install python3.{sys.version_info.minor}-venv" in result.stderr
    assert not venv.exists()


def test_an_unknown_word_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    result = _run("install-requirements.sh", str(tmp_path / "venv"), "cpu", "everything")
    assert result.returncode == 2
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("accelerator", "environment", "expected"),
    [
        ("cpu", {"PIP_FIND_LINKS": "/a /b"}, "/a,/b"),
        ("cpu", {"PIP_FIND_LINKS": "/a", "UV_FIND_LINKS": "/c"}, "/c"),
        ("cpu", {"PIP_FIND_LINKS": ""}, "unset"),
        # The folder may hold torch's CPU build, which uv would prefer.
        ("cuda", {"PIP_FIND_LINKS": "/a"}, "unset"),
    ],
)
def test_uv_looks_where_pip_looks(
    tmp_path: Path, accelerator: str, environment: dict[str, str], expected: str
) -> None:
    tools = tmp_path / "venv" / "bin"
    tools.mkdir(parents=True)
    _program(tools, "python", "exit 0")
    _program(tools, "uv", 'echo "${UV_FIND_LINKS:-unset}"')
    arguments = [str(tmp_path / "venv"), accelerator]
    variables = {"UV_FIND_LINKS": "", **environment}
    result = _run("install-requirements.sh", *arguments, path=None, **variables)
    assert result.stdout.strip() == expected


@pytest.mark.parametrize(("variable", "compiles"), [("1", True), ("", False)])
def test_what_python_will_not_keep_is_compiled_at_the_installation(
    tmp_path: Path, variable: str, compiles: bool
) -> None:
    tools = tmp_path / "venv" / "bin"
    tools.mkdir(parents=True)
    _program(tools, "python", "exit 0")
    _program(tools, "uv", 'echo "$*"')
    arguments = [str(tmp_path / "venv"), "cpu"]
    result = _run(
        "install-requirements.sh", *arguments, path=None, PYTHONDONTWRITEBYTECODE=variable
    )
    assert ("--compile-bytecode" in result.stdout) == compiles


def test_an_interrupted_installation_starts_from_an_empty_environment(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    _program(venv / "bin", "python", "exit 0")
    _program(venv / "bin", "uv", "exit 130")
    assert _run("install-requirements.sh", str(venv), "cpu").returncode == 130
    half = venv / "half-a-package"
    half.touch()
    python = str(_python_without(tmp_path, "ensurepip"))
    _run("install-requirements.sh", str(venv), "cpu", PYTHON=python)
    assert not half.exists()


def test_missing_system_packages_are_only_named_outside_ci(tmp_path: Path) -> None:
    tools = _tools(tmp_path / "bin", "bash", "env", "id", "grep")
    _program(tools, "ldconfig", "exit 0")
    _program(tools, "apt-get", f"touch {tmp_path}/installed")
    result = _run("system-packages.sh", PATH=str(tools))
    assert result.returncode == 0
    assert "apt-get install --no-install-recommends libnuma1 nodejs npm shellcheck" in result.stdout
    assert "promtool" in result.stdout
    assert not (tmp_path / "installed").exists()


def test_ci_stops_where_linting_fails(tmp_path: Path) -> None:
    _ci(tmp_path, make='[ "$1" != lint ]')
    result = subprocess.run([tmp_path / ".ci" / "run"], env=_environment(tmp_path / "bin"))
    assert result.returncode == 1
    assert (tmp_path / "targets").read_text().split() == ["lint"]


def test_ci_lints_then_tests(tmp_path: Path) -> None:
    _ci(tmp_path, make="true")
    result = subprocess.run([tmp_path / ".ci" / "run"], env=_environment(tmp_path / "bin"))
    assert result.returncode == 0
    assert (tmp_path / "targets").read_text().split() == ["lint", "test"]


def _ci(folder: Path, *, make: str) -> None:
    """A project with the CI's script and a `make` that notes its target and then runs this."""
    for name in [".ci", "scripts", "bin"]:
        (folder / name).mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci")
    _program(folder / "scripts", "system-packages.sh", "exit 0")
    _program(folder / "bin", "make", f'echo "$1" >> {folder}/targets\n{make}')
