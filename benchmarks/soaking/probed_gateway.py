"""`python -m benchmarks.soaking.probed_gateway SETTINGS REPORT`: the gateway, and a probe in it.

It is `python -m gateway` with the settings from a file, and two signal handlers: at SIGUSR1 it
writes what it holds (`Holdings`, as JSON) to REPORT; at SIGUSR2 it first forgets which completions
feedback may name, of which it keeps 100,000 by design, and has garbage collected, so that two such
reports can be compared. Nobody outside can count a process's tasks and blocks of memory.
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
from gateway.parts import Parts

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
    blocks: int
    """Small blocks of memory that Python has given out."""
    heap_bytes: int
    """What the C library's heap has given out; 0 where it does not tell."""
    remembered_bytes: int
    """Of the completions that feedback may name."""


class _MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


class Probe:
    """Answers signals with reports."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._number = 0
        self._mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
        if self._mallinfo is not None:
            self._mallinfo.restype = _MallInfo
        self.parts: Parts | None = None

    def on_signal(self, sig: int, frame: FrameType | None) -> None:
        """Called by Python between two steps of the event loop."""
        del frame
        assert self.parts is not None
        if sig == signal.SIGUSR2:
            for generation in self.parts.completions._served:
                generation.clear()
            gc.collect()
        self._number += 1
        part = self._report.with_suffix(".part")
        part.write_text(json.dumps(asdict(self._holdings())))
        part.rename(self._report)

    def _holdings(self) -> Holdings:
        assert self.parts is not None
        served = self.parts.completions._served
        # First, since what follows takes some itself.
        blocks, heap_bytes = sys.getallocatedblocks(), self._heap_bytes()
        tasks = asyncio.all_tasks(asyncio.get_running_loop())
        return Holdings(
            number=self._number,
            tasks=dict(Counter(getattr(t.get_coro(), "__qualname__", "?") for t in tasks)),
            objects=dict(Counter(type(o).__name__ for o in gc.get_objects()).most_common(_KINDS)),
            blocks=blocks,
            heap_bytes=heap_bytes,
            remembered_bytes=sum(
                sys.getsizeof(generation) + sum(map(_taken_bytes, generation))
                for generation in served
            ),
        )

    def _heap_bytes(self) -> int:
        """In use, in all arenas and mapped blocks."""
        if self._mallinfo is None:
            return 0
        found = self._mallinfo()
        return int(found.uordblks + found.hblkhd)


def _taken_bytes(text: str) -> int:
    """Python gives out small blocks in steps of 16 bytes."""
    return -(-sys.getsizeof(text) // 16) * 16


def main() -> None:
    """Runs the gateway."""
    settings, report = map(Path, sys.argv[1:])
    probe = Probe(report)

    def create_watched_app(*arguments: Any) -> FastAPI:
        app = create_app(*arguments)
        probe.parts = app.state.parts
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
