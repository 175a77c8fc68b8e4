"""A stand-in for an engine or a gateway, run as a program: `tiny_service.py NAME PORT FOLDER`.

FOLDER tells it how to behave, and learns what it did:
    NAME.pids, NAME.grandchildren    process ids, one a line, one for each start
    NAME.status                      the status it answers (200 when missing)
    NAME.unready                     while it exists, /readyz is answered with 503
    NAME.asked                       a line for each question whether it is ready
    NAME.fails                       what it says on standard error before it exits with status 3
    NAME.holds                       while it exists, SIGTERM is not obeyed
    NAME.escapes                     the grandchild leaves the process group
    ended                            names, in the order in which SIGTERM ended them
"""

import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

_SLEEPER = (
    "import signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    "time.sleep(600)"
)


def main(name: str, port: int, folder: Path) -> None:
    """Serves until it is ended."""
    _append(folder / f"{name}.pids", _own_pid())
    fails = folder / f"{name}.fails"
    if fails.exists():
        sys.stderr.write(fails.read_text())
        sys.exit(3)
    # Stubborn and unrelated, like an engine core whose API server was killed.
    grandchild = subprocess.Popen(
        [sys.executable, "-c", _SLEEPER],
        start_new_session=(folder / f"{name}.escapes").exists(),
    )
    _append(folder / f"{name}.grandchildren", grandchild.pid)
    sys.stdout.write(f"{name} says hello\n")
    sys.stdout.flush()
    server = _server(port, name, folder)

    def end(*_: object) -> None:
        Thread(target=_end, args=(server, name, folder), daemon=True).start()

    signal.signal(signal.SIGTERM, end)
    server.serve_forever(poll_interval=0.02)


def _end(server: ThreadingHTTPServer, name: str, folder: Path) -> None:
    while (folder / f"{name}.holds").exists():
        time.sleep(0.02)
    _append(folder / "ended", name)
    server.shutdown()


def _server(port: int, name: str, folder: Path) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(_status(self.path, name, folder))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def _status(path: str, name: str, folder: Path) -> int:
    if path == "/readyz":
        _append(folder / f"{name}.asked", path)
        if (folder / f"{name}.unready").exists():
            return 503
    status_file = folder / f"{name}.status"
    return int(status_file.read_text()) if status_file.exists() else 200


def _append(file: Path, value: object) -> None:
    with file.open("a") as out:
        out.write(f"{value}\n")


def _own_pid() -> int:
    return int(Path("/proc/self").resolve().name)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
