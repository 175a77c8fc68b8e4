"""The run: bases made and removed, rounds of sides, results compared; what fails is noted."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.merging.results import Errors, Results, Window
from benchmarks.merging.shapes import shape_of
from benchmarks.merging.sides import OURS, SIDES, Run
from benchmarks.merging.watched import CommandFailed, Used, disk_bytes, watch
from benchmarks.sides.rounds import turn

_ROOT = Path(__file__).resolve().parents[2]
_READ_BYTES = 1 << 22
TINY_GB = 0.0


class Bench:
    """One run. folder: for the bases and the results, one size at a time."""

    def __init__(
        self,
        results: Results,
        folder: Path,
        sides: list[str],
        rounds: int,
        say: Callable[[str], None],
    ) -> None:
        """sides: at the compared size; ours alone at the others."""
        self._results = results
        self._folder = folder
        self._sides = sides
        self._rounds = rounds
        self._say = say

    def run(self) -> None:
        """Everything, in order; results grow as it goes."""
        made = self._make(TINY_GB)
        for side in self._sides:
            if (window := self._window(0, side, made, TINY_GB)) is not None:
                self._results.starts.append(window)
        shutil.rmtree(made)
        works = [window.side for window in self._results.starts]
        for size in self._results.sizes:
            sides = self._sides if size == self._results.compared else [OURS]
            self._size(size, [side for side in sides if side in works])

    def _size(self, size: float, sides: list[str]) -> None:
        self._say(f"making a base of {size:g} GB")
        made = self._make(size)
        try:
            for number in range(self._rounds if sides else 0):
                for side in turn(sides, number):
                    if (window := self._window(number, side, made, size)) is not None:
                        self._results.windows.append(window)
        finally:
            shutil.rmtree(made)

    def _make(self, size: float) -> Path:
        made = self._folder / f"{size:g}"
        self._child("benchmarks.merging.made", str(made), str(size * 1e9))
        return made

    def _window(self, number: int, side: str, made: Path, size: float) -> Window | None:
        """None where the side failed, which is noted: the others are still worth measuring."""
        run = Run(made / "base", made / "adapter", made / "run")
        run.temporary.mkdir(parents=True)
        try:
            used, sync_s = self._measure(side, run, made)
            out_bytes = disk_bytes(run.out)
            shown = f"{used.seconds:.1f} s, {used.peak_rss_bytes / 2**20:,.0f} MiB"
            where = f"{size:g} GB, round {number + 1}" if size else "start alone"
            self._say(f"{where}, {side}: {shown}")
            if not number and size == self._results.compared:
                self._compare(side, run, size)
            return Window(number, side, size, used, sync_s, out_bytes)
        except CommandFailed as failure:
            self._results.notes.append(f"{side}, {size:g} GB: {failure}")
            self._say(f"{side}, {size:g} GB: {failure}")
            return None
        finally:
            shutil.rmtree(run.folder)

    def _measure(self, side: str, run: Run, made: Path) -> tuple[Used, float]:
        command = SIDES[side].command(run)
        os.sync()
        for folder in run.base, run.adapter:
            for file in folder.iterdir():
                read_through(file)
        used = watch(command, run.folder, made / "output.log", run.environ(), _ROOT)
        started = time.perf_counter()
        os.sync()
        return used, time.perf_counter() - started

    def _compare(self, side: str, run: Run, size: float) -> None:
        folders = [str(folder) for folder in (run.base, run.adapter, run.out)]
        said = json.loads(self._child("benchmarks.merging.compare", *folders))
        adapted = {f"{path}.weight" for path, _ in shape_of(size * 1e9).modules()}
        changed = [error for name, error in said.items() if name in adapted]
        values = sum(error["values"] for error in changed)
        self._results.errors.append(
            Errors(
                side=side,
                size_gb=size,
                largest={name: error["largest"] for name, error in said.items()},
                mean=sum(error["total"] for error in changed) / values,
                off=sum(error["off"] for error in changed) / values,
            )
        )

    def _child(self, module: str, *arguments: str) -> str:
        """A part that imports torch, so that this process stays small. Raises CommandFailed."""
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CommandFailed(f"{module} failed:\n{done.stderr[-2000:]}")
        return done.stdout


def read_through(file: Path) -> None:
    """Reads a file to its end, so that the page cache holds it."""
    buffer = bytearray(_READ_BYTES)
    with file.open("rb", buffering=0) as opened:
        while opened.readinto(buffer):
            pass
