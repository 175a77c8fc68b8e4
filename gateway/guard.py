"""The guard: a process of its own that ends the supervisor's children when the supervisor is gone.

A parent-death signal reaches children, not grandchildren, and vLLM's engine core and workers are
those. The supervisor holds the only write end of a pipe and writes `+GROUP` and `-GROUP` lines; the
pipe's end means that the supervisor is gone, however it went.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from gateway.process_group import kill_all, strike

_TRACKERS_GRACE_S = 2.0
_POLL_S = 0.05


class Guard:
    """The supervisor's end: starts a guard and tells it which process groups there are."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the guard's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts a guard, or another when the last one died, and tells it every group."""
        self.close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gateway.guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        for group in self._groups:
            self._tell(f"+{group}")

    def add(self, group: int) -> None:
        """From now on the group ends when the supervisor does."""
        self._groups.add(group)
        self._tell(f"+{group}")

    def remove(self, group: int) -> None:
        """The group is empty; its number may come to stand for another."""
        self._groups.discard(group)
        self._tell(f"-{group}")

    def close(self) -> None:
        """Ends the guard, and with it every group that it still knows."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process = None

    def _tell(self, line: str) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        # Where it has died, the supervisor starts another, which is told everything.
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


def groups_told(lines: Iterable[str]) -> set[int]:
    """The groups that stand at the end of `+GROUP` and `-GROUP` lines."""
    groups: set[int] = set()
    for line in lines:
        sign, number = line[:1], line[1:].strip()
        if number.isdigit():
            (groups.add if sign == "+" else groups.discard)(int(number))
    return groups


def end_groups(groups: Iterable[int]) -> None:
    """Ends every process of the groups; shared memory goes with them."""
    left = set(groups)
    deadline = time.monotonic() + _TRACKERS_GRACE_S
    while left and time.monotonic() < deadline:
        left = {group for group in left if strike(group)}
        time.sleep(_POLL_S if left else 0)
    for group in left:
        kill_all(group)


def main() -> None:
    """Waits for the supervisor's end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    end_groups(groups_told(_lines()))


def _lines() -> Iterator[str]:
    yield from sys.stdin


if __name__ == "__main__":
    main()
