"""Memory of several processes together, from the kernel's proportional set sizes."""

from collections.abc import Iterable
from pathlib import Path


def pss_bytes(pids: Iterable[int], proc: Path = Path("/proc")) -> int:
    """What the processes take; a page that n of them share counts 1/n for each. Those that have
    ended, or that another user owns, count nothing.
    """
    return sum(_pss_bytes(proc / str(pid) / "smaps_rollup") for pid in pids)


def _pss_bytes(file: Path) -> int:
    try:
        text = file.read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
