"""`python -m benchmarks.soaking.probed_gateway SETTINGS REPORT`: the gateway, and a probe in it.

It is `python -m gateway` with the settings from a file, unchanged but for one signal handler each:
at SIGUSR1 it writes what it holds (`Holdings`, as JSON) to REPORT, at SIGUSR2 it first has the
garbage collected. Nobody outside can count a process's tasks and objects.
"""

import asyncio
import ctypes
import gc
import json
import signal
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from fastapi import FastAPI

import gateway.__main__ as gateway_main
from gateway.app import create_app
from gateway.feedback import Completions

_KINDS = 400


@dataclass(frozen=True)
class Holdings:
    """What the process holds."""

    number: int
    """Of the report, from 1."""
    tasks: dict[str, int]
    """Tasks that have not ended, by coroutine."""
    objects: dict[str, int]
    """What the collector knows, by type; what was there before the start is left out."""
    remembered: int
    """Completions that feedback may still name: up to 100,000, by design."""
    remembered_bytes: int
    blocks: int
    """Python's own small blocks of memory in use."""
    heap_bytes: int
    """What the C library's heap has given out."""


class _MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def heap_bytes() -> int:
    """In use, in all arenas and mapped blocks; 0 where the C library does not tell."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _MallInfo
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


class Probe:
    """Answers signals with reports."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._number = 0
        self.completions: Completions | None = None

    def on_signal(self, sig: int, frame: FrameType | None) -> None:
        """Called by Python between two steps of the event loop."""
        del frame
        if sig == signal.SIGUSR2:
            gc.collect()
        self._number += 1
        part = self._report.with_suffix(".part")
        part.write_text(json.dumps(asdict(self._holdings())))
        part.rename(self._report)

    def _holdings(self) -> Holdings:
        tasks = asyncio.all_tasks(asyncio.get_running_loop())
        served = {} if self.completions is None else self.completions._served
        return Holdings(
            number=self._number,
            tasks=dict(Counter(getattr(t.get_coro(), "__qualname__", "?") for t in tasks)),
            objects=dict(Counter(type(o).__name__ for o in gc.get_objects()).most_common(_KINDS)),
            remembered=len(served),
            blocks=sys.getallocatedblocks(),
            heap_bytes=heap_bytes(),
            remembered_bytes=sys.getsizeof(served) + sum(map(sys.getsizeof, served)),
        )


def main() -> None:
    """Runs the gateway."""
    settings, report = map(Path, sys.argv[1:])
    probe = Probe(report)

    def create_watched_app(*arguments: Any) -> FastAPI:
        app = create_app(*arguments)
        probe.completions = app.state.parts.completions
        return app

    # Where `main` finds it.
    vars(gateway_main)["create_app"] = create_watched_app
    for sig in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(sig, probe.on_signal)
    sys.argv[1:] = []
    with settings.open() as sys.stdin:
        gateway_main.main()


if __name__ == "__main__":
    main()
