"""`loraplex demo` as a process: how it ends when it cannot go on, and that nothing stays behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loraplex.cli import app

DEADLINE_S = 90.0
COMMAND = [sys.executable, "-m", "loraplex", "demo"]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LORAPLEX_")}
    # A cache of its own: the conversion is being worked at when the demo is interrupted.
    cache_dir = str(tmp_path / "cache")
    return kept | {"TMPDIR": str(tmp_path), "LORAPLEX_CACHE_DIR": cache_dir} | more


def processes_in(tmp_path: Path) -> list[int]:
    """The living processes that were started with this test's folder in their environment."""
    mark = f"TMPDIR={tmp_path}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_for_children(tmp_path: Path, count: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while len(processes_in(tmp_path)) < count:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def wait_for_none(tmp_path: Path) -> None:
    """One that was only just forked needs a moment to see that it is alone."""
    deadline_s = time.monotonic() + 10
    while left := processes_in(tmp_path):
        assert time.monotonic() < deadline_s, left
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("processes", [2, 4], ids=["at once", "with the supervisor at work"])
def test_interrupted_it_leaves_no_process_and_no_file(
    tmp_path: Path, number: int, code: int, processes: int
) -> None:
    demo = subprocess.Popen(
        COMMAND, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    wait_for_children(tmp_path, processes)
    demo.send_signal(number)
    output, _ = demo.communicate(timeout=DEADLINE_S)
    assert demo.returncode == code, output
    wait_for_none(tmp_path)
    assert [path.name for path in tmp_path.glob("loraplex-demo-*")] == []
    assert b"Traceback" not in output


def test_killed_it_leaves_no_process(tmp_path: Path) -> None:
    demo = subprocess.Popen(COMMAND, env=environment(tmp_path), stdout=subprocess.DEVNULL)
    wait_for_children(tmp_path, 4)
    demo.kill()
    demo.wait()
    wait_for_none(tmp_path)


def test_a_start_that_fails_says_why_and_keeps_the_log(tmp_path: Path) -> None:
    environ = environment(tmp_path, LORAPLEX_ENGINE_ARGS="--port 1")
    done = subprocess.run(COMMAND, env=environ, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert done.stderr.startswith("error: --port: ")
    found = re.search(r"The log of gateway and engine: (\S+)", done.stderr)
    assert found is not None
    assert "--port" in Path(found.group(1)).read_text()
    assert [path for path in tmp_path.glob("loraplex-demo-*") if path.is_dir()] == []


def test_without_openais_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 1
    assert "pip install openai" in result.stderr
