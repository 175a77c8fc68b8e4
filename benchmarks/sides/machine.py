"""The machine the figures belong to: processor, kernel, versions, cores and limits."""

import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

_PACKAGES = ("uvicorn", "uvloop", "httptools", "fastapi", "prometheus-client")


def describe() -> dict[str, str]:
    """What a reader needs to place the figures."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{_memory_bytes() / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Of Python, the packages on the gateway's path, and the source's commit."""
    found = {"Python": platform.python_version(), "loraplex": _version("loraplex")}
    found |= {name: _version(name) for name in _PACKAGES}
    return found | {"commit": _commit()}


def problem() -> str | None:
    """Why nothing can be measured here."""
    if sys.platform != "linux":
        return "the benchmark reads /proc and pins processes to cores: it needs Linux"
    if len(os.sched_getaffinity(0)) < 2:
        return "the benchmark needs two cores: the proxy alone on one, the rest on the other"
    return None


def cores() -> tuple[int, int]:
    """The engine's and load generator's core, and the proxy's."""
    first, second, *_ = sorted(os.sched_getaffinity(0))
    return first, second


def priority() -> str:
    """Of this process and what it starts; real time keeps the machine's other work out."""
    real_time = os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)
    return "real time" if real_time else "usual"


def raise_file_limit() -> int:
    """As many open files as this user may have; the number. Children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
