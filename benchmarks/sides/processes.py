"""Child processes pinned to a core, and what the kernel says of them and their children."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STOP_S = 20.0
_TAIL_CHARS = 2000


class ChildFailed(Exception):
    """A child that ended or did not answer; the message holds the end of its output."""


@dataclass(frozen=True)
class Stat:
    """What matters of `/proc/PID/stat`."""

    parent: int
    cpu_s: float
    rss_bytes: int


def parse_stat(text: str) -> Stat:
    """One line of `/proc/PID/stat`; the command's name may hold spaces and brackets."""
    fields = text.rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Stat(int(fields[1]), ticks * _TICKS_S, int(fields[21]) * _PAGE_BYTES)


class Child:
    """A process of its own session, on one core or several, its output in a file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cores: Sequence[int],
        log: Path,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """environ: set over this process's own."""
        self.name = Path(command[0]).name
        self._log = log
        pinned = ["taskset", "-c", ",".join(map(str, cores)), *command]
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                pinned,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(environ or {})},
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Raises ChildFailed if it has ended."""
        if (status := self._process.poll()) is not None:
            raise ChildFailed(f"{self.name} ended with status {status}:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its output."""
        return self._log.read_text(errors="replace")[-_TAIL_CHARS:]

    def family(self) -> dict[int, Stat]:
        """It and its descendants that live, by process id."""
        return _family(self.pid, _all_stats())

    def find(self, *words: str) -> int:
        """The process of the family whose command line has these words in a row."""
        for pid in sorted(self.family()):
            if _holds(_command_line(pid), words):
                return pid
        raise ChildFailed(f"{self.name} has no process `{' '.join(words)}`:\n{self.tail()}")

    def cpu_s(self) -> float:
        """CPU seconds of the family so far."""
        return sum(stat.cpu_s for stat in self.family().values())

    def rss_bytes(self) -> int:
        """Resident memory of the family."""
        return sum(stat.rss_bytes for stat in self.family().values())

    def stop(self) -> None:
        """End it and all it started: politely, then not. Can be called twice."""
        family = self.family()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        left = _all_stats()
        for pid in family.keys() & left.keys() - {self.pid}:
            _kill(pid)


def _command_line(pid: int) -> tuple[str, ...]:
    try:
        return tuple(Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0"))
    except OSError:  # it has just ended
        return ()


def _holds(line: tuple[str, ...], words: tuple[str, ...]) -> bool:
    return any(line[at : at + len(words)] == words for at in range(len(line)))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _all_stats() -> dict[int, Stat]:
    return dict(_read_stats())


def _read_stats() -> Iterator[tuple[int, Stat]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), parse_stat((entry / "stat").read_text())
            except OSError:  # it has just ended
                continue


def _family(root: int, stats: Mapping[int, Stat]) -> dict[int, Stat]:
    found: dict[int, Stat] = {}
    todo = [root]
    while todo:
        pid = todo.pop()
        if pid in stats and pid not in found:
            found[pid] = stats[pid]
            todo += [child for child, stat in stats.items() if stat.parent == pid]
    return found
