"""Runs a command that dies with its parent: `python -m gateway.leash PARENT_PID COMMAND...`.

The kernel's parent-death signal has to be asked for by the child itself. Doing so here, and then
becoming the command, needs no code between fork and exec in a parent that may have threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent_pid: int) -> bool:
    """Whether the parent is still there; from now on its end is ours. Survives exec."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent_pid


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def prctl(option: int, value: int) -> None:
    """Linux's prctl. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main(argv: list[str]) -> None:
    """Becomes the command, unless the parent is gone already."""
    if not die_with_parent(int(argv[0])):
        sys.exit(1)
    try:
        os.execvp(argv[1], argv[1:])  # noqa: S606 - the command is the supervisor's own
    except OSError as error:
        sys.exit(f"{argv[1]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
