"""A `loraplex serve` for as long as a block runs: own data dir, free ports, log in a file."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from loraplex.client.clients import Client
from loraplex.client.errors import Unreachable
from loraplex.connection import environment_of_this_machine
from loraplex.errors import CommandError

SERVE = (sys.executable, "-m", "loraplex", "serve")
_START_S = 1200.0
# What gateway.console prints: how far the start is, without the lines of the children, which carry
# a prefix or are JSON; and in the end why it failed, with a child's last lines after it.
_PROGRESS_LINE = re.compile(r"(?!(?:engine|gateway|model) +\| |\{).+ \(\d+ s\)")
_FAILURE_MARK = "error: "
_TAIL_MARK = "Its last lines:"
_POLL_S = 0.25
_STOP_S = 40.0


@dataclass(frozen=True)
class LocalGateway:
    """The running child and where it is found."""

    process: subprocess.Popen[bytes]
    url: str
    metrics_url: str
    data_dir: Path
    log: Path

    @property
    def admin_key(self) -> str:
        """The key that the gateway made at its first start."""
        return (self.data_dir / "admin.key").read_text().strip()


@contextmanager
def local_gateway(
    data_dir: Path, log: Path, serve_args: Sequence[str], *, serve: Sequence[str] = SERVE
) -> Iterator[LocalGateway]:
    """Starts `loraplex serve`, and stops it with all its children however the block ends."""
    port, metrics_port = _free_ports(2)
    # The leash ends the child with this process, also when that is killed.
    command = [sys.executable, "-m", "gateway.leash", str(os.getpid()), *serve]
    command += ["--data-dir", str(data_dir), "--port", str(port)]
    command += ["--metrics-port", str(metrics_port), *serve_args]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment_of_this_machine(),
            # Ctrl-C at the terminal is for us alone; we then end the child in order.
            start_new_session=True,
        )
    try:
        yield LocalGateway(
            process,
            f"http://127.0.0.1:{port}",
            f"http://127.0.0.1:{metrics_port}/metrics",
            data_dir,
            log,
        )
    finally:
        _stop(process)


def wait_until_ready(gateway: LocalGateway, on_news: Callable[[str], None]) -> None:
    """Returns when requests are taken. on_news: told what the start is busy with."""
    deadline = time.monotonic() + _START_S
    with Client(gateway.url) as client:
        while not _is_ready(client):
            if gateway.process.poll() is not None:
                raise CommandError(_why_it_failed(gateway.log))
            if time.monotonic() > deadline:
                raise CommandError(f"the gateway is not ready after {_START_S:.0f} s")
            if news := _news(gateway.log):
                on_news(news)
            time.sleep(_POLL_S)


def _news(log: Path) -> str | None:
    """What the supervisor last said about how far the start is."""
    lines = reversed(last_lines(log, 100).splitlines())
    return next((line for line in lines if _PROGRESS_LINE.fullmatch(line)), None)


def _why_it_failed(log: Path) -> str:
    """The error that `loraplex serve` ended with; where it named none, the end of the log."""
    lines = log.read_text("utf-8", "replace").splitlines()
    marked = [at for at, line in enumerate(lines) if line.startswith(_FAILURE_MARK)]
    if not marked:
        return f"the gateway could not start:\n{last_lines(log)}"
    reason = takewhile(lambda line: line != _TAIL_MARK, lines[marked[-1] :])
    return "\n".join(reason).removeprefix(_FAILURE_MARK)


def last_lines(log: Path, count: int = 12) -> str:
    """The end of the log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 200 * (count + 10)))
        text = file.read().decode("utf-8", "replace")
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


def _is_ready(client: Client) -> bool:
    try:
        return client.ready()["status"] == "ready"
    except Unreachable:
        return False


def _free_ports(count: int) -> list[int]:
    """Ports free now, all held until the last is found so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM; SIGKILL when it takes too long, or when a second Ctrl-C says so."""
    try:
        process.terminate()
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
