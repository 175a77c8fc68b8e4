"""Child processes of the supervisor: each leads a process group, and ends with all of it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway.process_group import kill_all, strike

_TAIL_LINES = 400
_LONGEST_LINE_BYTES = 64 * 1024
_POLL_S = 0.05
# How long Python's resource trackers get to unlink shared memory once its owners are dead.
_TRACKERS_GRACE_S = 2.0
_LAST_OUTPUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and what it reads on its standard input (it may hold a secret)."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    stdin: bytes = field(default=b"", repr=False)


class Child:
    """A running command. It dies with this process, and its descendants die with it.

    To be started from the main thread: the kernel ends a child with the thread that made it.
    """

    def __init__(
        self,
        command: Command,
        process: subprocess.Popen[bytes],
        on_line: Callable[[str], None],
    ) -> None:
        self.name = command.name
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        """Its last lines of output."""
        self._process = process
        # Unlike its number, the descriptor never comes to mean another process.
        self._pidfd: int | None = os.pidfd_open(process.pid)
        self._on_line = on_line
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    @classmethod
    def start(cls, command: Command, on_line: Callable[[str], None]) -> "Child":
        """Starts it. on_line is given every line of its output, both streams as one."""
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.leash", str(os.getpid()), *command.argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(command.env),
            process_group=0,
            bufsize=0,
        )
        _feed(process, command.stdin)
        return cls(command, process, on_line)

    @property
    def pid(self) -> int:
        """The process's id, and its group's."""
        return self._process.pid

    async def wait(self) -> int:
        """The exit status (minus the signal's number), once its whole group has ended."""
        return await asyncio.shield(self._watching)

    async def stop(self, grace_s: float) -> int:
        """Asks it to end, then makes it."""
        self._signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.wait(), grace_s)
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int:
        """Ends it and its group at once."""
        self._signal(signal.SIGKILL)
        return await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def _watch(self) -> int:
        output = await self._read_output()
        await self._death()
        # The leader is a zombie yet, so the group's number cannot come to mean another group.
        await _end_group(self.pid)
        status = self._process.wait()
        _reap(self.pid)
        await asyncio.wait([output.closed], timeout=_LAST_OUTPUT_S)
        output.close()
        return status

    async def _death(self) -> None:
        """Returns when the process is dead, without reaping it."""
        assert self._pidfd is not None
        loop = asyncio.get_running_loop()
        dead = asyncio.Event()
        loop.add_reader(self._pidfd, dead.set)
        try:
            await dead.wait()
        finally:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    async def _read_output(self) -> "_Lines":
        assert self._process.stdout is not None
        loop = asyncio.get_running_loop()
        _, lines = await loop.connect_read_pipe(
            lambda: _Lines(loop, self._take), self._process.stdout
        )
        return lines

    def _take(self, line: str) -> None:
        self.tail.append(line)
        self._on_line(line)


class _Lines(asyncio.Protocol):
    """Cuts bytes into lines. Of a line that carriage returns rewrote, the last state."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_line: Callable[[str], None]) -> None:
        self.closed = loop.create_future()
        self._on_line = on_line
        self._rest = b""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._emit(line)
        if len(self._rest) > _LONGEST_LINE_BYTES:
            self._emit(self._rest)
            self._rest = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._emit(self._rest)
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        """No more lines are wanted."""
        if self._transport is not None:
            self._transport.close()

    def _emit(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self._on_line(text.rpartition("\r")[2])


def _feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Gives the process its standard input. A pipe holds 64 KiB, settings are far smaller."""
    assert process.stdin is not None
    # Where it has died already, its exit tells.
    with process.stdin as stdin, suppress(BrokenPipeError):
        stdin.write(data)


async def _end_group(group: int) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _TRACKERS_GRACE_S
    while strike(group):
        if loop.time() > deadline:
            kill_all(group)
        await asyncio.sleep(_POLL_S)


def _reap(group: int) -> None:
    """Takes in the group's dead that were adopted from their own parents."""
    try:
        while os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG) is not None:
            pass
    except ChildProcessError:
        pass


async def end_adopted(spared: frozenset[int]) -> None:
    """Ends every child of this process but the spared: orphans that had left their group."""
    while adopted := [pid for pid in _children() if pid not in spared]:
        for pid in adopted:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)  # noqa: ASYNC222 - it was killed, so this is a moment
        await asyncio.sleep(0)


def _children() -> list[int]:
    """This process's children, whichever of its threads made them."""
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found += map(int, (thread / "children").read_text().split())
    return found
