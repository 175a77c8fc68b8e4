"""A command run to its end and what it used: time, memory, disk, by what the kernel says of it."""

import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_EVERY_S = 0.05
_TAIL_CHARS = 2000
_KIB = 1024


class CommandFailed(Exception):
    """It ended with an error; the message holds the end of its output."""


@dataclass(frozen=True)
class Memory:
    """What a process has in memory; the most it ever had; what of it is mapped from files."""

    rss_bytes: int
    most_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class Used:
    """What a command and all processes it started used.

    peak_rss_bytes: the most that all of them held at once. peak_file_bytes: the most of it that was
    mapped from files. peak_process_bytes: the most that one of them held. written_bytes: pages made
    dirty on the disk. peak_disk_bytes: the most that lay in its folder.
    """

    seconds: float
    cpu_s: float
    peak_rss_bytes: int
    peak_file_bytes: int
    peak_process_bytes: int
    written_bytes: int
    peak_disk_bytes: int


@dataclass
class Peak:
    """The most that was seen so far."""

    rss_bytes: int = 0
    file_bytes: int = 0
    process_bytes: int = 0
    disk_bytes: int = 0

    def note(self, processes: Sequence[Memory], disk_bytes: int) -> None:
        """Another look."""
        self.rss_bytes = max(self.rss_bytes, sum(one.rss_bytes for one in processes))
        self.file_bytes = max(self.file_bytes, sum(one.file_bytes for one in processes))
        self.process_bytes = max(self.process_bytes, *(one.most_bytes for one in processes), 0)
        self.disk_bytes = max(self.disk_bytes, disk_bytes)


def watch(
    command: Sequence[str],
    folder: Path,
    log: Path,
    environ: Mapping[str, str],
    cwd: Path,
    peak: Peak | None = None,
) -> Used:
    """Runs it. folder: where all that it writes lies. peak: filled in. Raises CommandFailed.

    Memory and disk are looked at every 50 ms; the kernel's own peak of the largest process is taken
    where it is more. Nothing else may be written by this process meanwhile: the kernel adds the
    writing of a child to its parent's.
    """
    peak = peak or Peak()
    written, started = _written_bytes(), time.perf_counter()
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environ},
            cwd=cwd,
            start_new_session=True,
        )
    descriptor = os.pidfd_open(child.pid)
    try:
        while not select.select([descriptor], [], [], _EVERY_S)[0]:
            peak.note([*family(child.pid)], disk_bytes(folder))
        seconds = time.perf_counter() - started
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    finally:
        os.close(descriptor)
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.returncode:
        tail = log.read_text(errors="replace")[-_TAIL_CHARS:]
        raise CommandFailed(f"ended with status {child.returncode}:\n{tail}")
    # A child is born with its parent's peak: only what is above that is its own.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    largest = usage.ru_maxrss * _KIB if usage.ru_maxrss > own else peak.process_bytes
    return Used(
        seconds=seconds,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_rss_bytes=max(peak.rss_bytes, largest),
        peak_file_bytes=peak.file_bytes,
        peak_process_bytes=largest,
        written_bytes=_written_bytes() - written,
        peak_disk_bytes=max(peak.disk_bytes, disk_bytes(folder)),
    )


def family(pid: int) -> Iterator[Memory]:
    """The memory of a process and of all that it started, those that live."""
    try:
        yield parse_status(Path(f"/proc/{pid}/status").read_text())
        tasks = [*Path(f"/proc/{pid}/task").iterdir()]
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except (OSError, KeyError):  # it has just ended
        return
    for child in children:
        yield from family(int(child))


def parse_status(text: str) -> Memory:
    """Of `/proc/PID/status`. Raises KeyError for a process that has no memory any more."""
    fields = dict(line.split(":", 1) for line in text.splitlines())
    mapped = _bytes(fields["RssFile"]) + _bytes(fields["RssShmem"])
    return Memory(_bytes(fields["VmRSS"]), _bytes(fields["VmHWM"]), mapped)


def disk_bytes(folder: Path) -> int:
    """What lies in a folder, as blocks on the disk."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += disk_bytes(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:  # removed or renamed meanwhile
        pass
    return total


def _bytes(field: str) -> int:
    return int(field.split()[0]) * _KIB


def _written_bytes() -> int:
    """By this process and all that it has waited for."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])
