"""What the kernel tells of this process, under the names that every Prometheus library uses."""

import os
from pathlib import Path

from gateway.series import Series

# Fields of /proc/self/stat, counted from the one after the command's closing bracket.
_USER_TICKS, _SYSTEM_TICKS, _START_TICKS, _RESIDENT_PAGES = 11, 12, 19, 21


class ProcessSeries:
    """Series of this process. Where there is no /proc they stay at 0."""

    def __init__(self, series: Series, proc: Path = Path("/proc")) -> None:
        self._cpu = series.counter(
            "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", ()
        ).labels()
        self._resident = series.gauge(
            "process_resident_memory_bytes", "Resident memory size in bytes.", ()
        ).labels()
        self._descriptors = series.gauge(
            "process_open_fds", "Number of open file descriptors.", ()
        ).labels()
        self._start = series.gauge(
            "process_start_time_seconds", "Start time of the process since unix epoch.", ()
        ).labels()
        self._proc = proc
        self._booted_at_s = _booted_at_s(proc)
        self._ticks_a_s = os.sysconf("SC_CLK_TCK")
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")

    def refresh(self) -> None:
        """Reads the values of now; takes some 50 microseconds."""
        own = self._proc / "self"
        try:
            fields = (own / "stat").read_bytes().rpartition(b")")[2].split()
            self._descriptors.set(_entries(own / "fd"))
        except OSError:
            return
        cpu_ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
        self._cpu.value = cpu_ticks / self._ticks_a_s
        self._resident.set(int(fields[_RESIDENT_PAGES]) * self._page_bytes)
        self._start.set(self._booted_at_s + int(fields[_START_TICKS]) / self._ticks_a_s)


def _entries(folder: Path) -> int:
    # Linux 6.2 and later give the number as the folder's size; to list thousands takes long.
    return folder.stat().st_size or len([*folder.iterdir()])


def _booted_at_s(proc: Path) -> float:
    """Unix seconds; 0 where the kernel does not tell."""
    try:
        lines = (proc / "stat").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith("btime ")), 0.0)
