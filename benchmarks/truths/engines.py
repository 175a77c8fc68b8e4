"""Starts the engines of the truths as processes of their own."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.sides.processes import Child, ChildFailed

ROOT = Path(__file__).resolve().parents[2]
_START_S = 60.0


@contextmanager
def served(folder: Path, module: str, *arguments: str) -> Iterator[str]:
    """A server that says `listening on URL`; yields the URL. Raises ChildFailed."""
    log = folder / f"{module.rpartition('.')[2]}-{time.monotonic_ns()}.log"
    child = start(module, arguments, log)
    try:
        yield _wait_for_url(child, log)
    finally:
        child.stop()


def start(module: str, arguments: Sequence[str], log: Path) -> Child:
    """A module of the repository as a process, on any core."""
    cores = sorted(os.sched_getaffinity(0))
    return Child([sys.executable, "-m", module, *arguments], cores=cores, log=log, cwd=ROOT)


def wait(child: Child, file: Path, most_s: float) -> str:
    """What it writes into `file`, at its end. Raises ChildFailed."""
    end_s = time.monotonic() + most_s
    while not file.exists():
        child.check()
        if time.monotonic() > end_s:
            raise ChildFailed(f"{child.name} takes more than {most_s:.0f} s:\n{child.tail()}")
        time.sleep(0.1)
    return file.read_text()


def late(url: str) -> dict[str, float]:
    """How late an engine's own writes were so far, in seconds."""
    told: dict[str, float] = httpx.get(f"{url}/late", trust_env=False).raise_for_status().json()
    return told


def _wait_for_url(child: Child, log: Path) -> str:
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s:
        child.check()
        for line in log.read_text().splitlines():
            if line.startswith("listening on "):
                return line.removeprefix("listening on ")
        time.sleep(0.02)
    raise ChildFailed(f"{child.name} does not start:\n{child.tail()}")
