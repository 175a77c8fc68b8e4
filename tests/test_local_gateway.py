"""A gateway for as long as a block runs: whatever happens, its process is gone afterwards."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loraplex.errors import CommandError
from loraplex.local_gateway import last_lines, local_gateway, wait_until_ready

DEADLINE_S = 20.0
FOREVER = "import time\nprint('up', flush=True)\nwhile True: time.sleep(1)"
STUBBORN = (
    "import signal\n"
    "signal.signal(signal.SIGTERM, lambda number, frame: print('told', flush=True))\n" + FOREVER
)
STARTING = """
from gateway.console import Console
from gateway.launch import Choice
now_s = 0
console = Console(clock=lambda: now_s)
console.child_line("model", "shards (1 s)")
console.choices([Choice("max-num-seqs", "32", "2 cores")])
now_s = 10
console.progress("starting the engine", 0)
console.child_line("engine", "loading (2 s)")
console.child_line("gateway", '{"event": "up (1 s)"}')
console.say("vLLM said more")
"""
FAILING = """
from gateway.console import Console
console = Console()
console.child_line("engine", "error: of its own")
console.fail("the engine could not start: no memory\\nfree some")
console.tail(["Traceback (most recent call last):", "error: RuntimeError"])
raise SystemExit(1)
"""
SERVER = (
    STARTING
    + """
import argparse, http.server
parser = argparse.ArgumentParser()
for flag in ("--data-dir", "--port", "--metrics-port"): parser.add_argument(flag)
flags, rest = parser.parse_known_args()
class Ready(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Ready.asked += 1
        body = b'{"status": "ready"}' if Ready.asked > 2 else b'{"status": "not_ready"}'
        self.send_response(200 if Ready.asked > 2 else 503)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
http.server.HTTPServer(("127.0.0.1", int(flags.port)), Ready).serve_forever()
"""
)


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether the process has ended; an ended one that nobody waited for counts."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_ready_with_news_on_the_way_and_stopped_after(tmp_path: Path) -> None:
    news: list[str] = []
    with local_gateway(tmp_path, tmp_path / "log", (), serve=program(SERVER)) as gateway:
        wait_until_ready(gateway, news.append)
        assert gateway.process.poll() is None
    assert gateway.process.poll() == -signal.SIGTERM
    assert set(news) == {"starting the engine (10 s)"}


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    with (
        local_gateway(tmp_path, tmp_path / "log", (), serve=program(FAILING)) as gateway,
        pytest.raises(CommandError) as raised,
    ):
        wait_until_ready(gateway, lambda news: None)
    assert raised.value.message == "the engine could not start: no memory\nfree some"


def test_a_start_that_fails_without_a_reason_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with (
        local_gateway(tmp_path, tmp_path / "log", (), serve=program("1 / 0")) as gateway,
        pytest.raises(CommandError, match=r"could not start:\n(.+\n)+ZeroDivisionError"),
    ):
        wait_until_ready(gateway, lambda news: None)


def test_the_persons_own_settings_do_not_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAPLEX_DATABASE_URL", "postgresql://production")
    monkeypatch.setenv("LORAPLEX_CACHE_DIR", "/cache")
    show = "import os; print(sorted(n for n in os.environ if n.startswith('LORAPLEX_')))"
    log = tmp_path / "log"
    with local_gateway(tmp_path, log, (), serve=program(show)) as gateway:
        gateway.process.wait(DEADLINE_S)
    assert log.read_text() == "['LORAPLEX_CACHE_DIR']\n"


def test_an_error_in_the_block_stops_it(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        local_gateway(tmp_path, tmp_path / "log", (), serve=program(FOREVER)) as gateway,
    ):
        raise ZeroDivisionError
    assert gateway.process.poll() == -signal.SIGTERM


PARENT = """
import sys
from pathlib import Path
from loraplex.local_gateway import local_gateway
folder = Path(sys.argv[1])
serve = (sys.executable, "-c", sys.argv[2])
with local_gateway(folder, folder / "log", (), serve=serve) as gateway:
    print(gateway.process.pid, flush=True)
    gateway.process.wait()
"""


def start_parent(folder: Path, child: str) -> "tuple[subprocess.Popen[str], int]":
    """A process that holds a gateway, and that gateway's id, once both are up."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder), child],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    wait_for(lambda: (folder / "log").exists() and "up" in (folder / "log").read_text())
    return parent, pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_however_the_parent_ends(tmp_path: Path, number: int) -> None:
    parent, pid = start_parent(tmp_path, FOREVER)
    parent.send_signal(number)
    parent.wait(DEADLINE_S)
    wait_for(lambda: gone(pid))


def test_a_second_interrupt_kills_one_that_does_not_end(tmp_path: Path) -> None:
    parent, pid = start_parent(tmp_path, STUBBORN)
    parent.send_signal(signal.SIGINT)
    wait_for(lambda: "told" in (tmp_path / "log").read_text())
    parent.send_signal(signal.SIGINT)
    parent.wait(DEADLINE_S)
    assert gone(pid)


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 10_000 + b"\n\n" + "\n".join(map(str, range(50))).encode() + b"\xff")
    assert last_lines(log, 3) == "47\n48\n49\ufffd"
    log.write_bytes(b"")
    assert last_lines(log) == ""


def test_ports_are_free_and_differ(tmp_path: Path) -> None:
    with local_gateway(tmp_path, tmp_path / "log", (), serve=program(FOREVER)) as gateway:
        assert gateway.url.startswith("http://127.0.0.1:")
        assert not gateway.metrics_url.startswith(gateway.url)
        assert os.getsid(gateway.process.pid) == gateway.process.pid
