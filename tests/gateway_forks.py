"""Starts real gateway processes quickly: each is forked from one that has imported everything.

In: a line with the files of the settings and of the log. Out: the process's id, then, when it has
ended, a line that says so. It ends all of them with itself.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

import gateway.__main__

_PR_SET_PDEATHSIG = 1


def _serve(settings: Path, log: Path) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for file, descriptor, flags in (
        (settings, 0, os.O_RDONLY),
        (log, 1, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (log, 2, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        opened = os.open(file, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.argv = ["gateway"]
    gateway.__main__.main()


if __name__ == "__main__":
    while line := sys.stdin.readline():
        settings_file, log_file = line.split()
        if (pid := os.fork()) == 0:
            try:
                _serve(Path(settings_file), Path(log_file))
            finally:
                os._exit(1)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("ended", flush=True)
