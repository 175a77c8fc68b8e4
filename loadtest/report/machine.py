"""The machine that the load came from."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Machine:
    """Without its name or address: results are shown around."""

    system: str
    processor: str
    cores: int
    """That this process may use."""
    memory_bytes: int
    python: str
    loraplex: str
    """The version; `unknown` where it is not installed."""


def this_machine() -> Machine:
    """Asks the system."""
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        python=platform.python_version(),
        loraplex=_version(),
    )


def _processor() -> str:
    """As the kernel names it; Arm's says no name."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _version() -> str:
    try:
        return version("loraplex")
    except PackageNotFoundError:
        return "unknown"
