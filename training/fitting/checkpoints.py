"""Checkpoints that are whole or not there: made aside, put in place by a rename, then the last."""

import os
import shutil
from pathlib import Path

_MAKING = ".making"
_PREFIX = "checkpoint-"


class Checkpoints:
    """Those of one run, in one folder. Only the newest is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.making = folder / _MAKING
        """Where the next one is made, as `checkpoint-STEP`."""

    def newest(self) -> Path | None:
        """The last whole one."""
        whole = sorted(self.folder.glob(f"{_PREFIX}*"), key=_step_of)
        return whole[-1] if whole else None

    def clear(self) -> None:
        """Removes what an end in the middle of making one left."""
        shutil.rmtree(self.making, ignore_errors=True)

    def part(self, step: int) -> Path:
        """The folder of a checkpoint that is being made."""
        return self.making / f"{_PREFIX}{step}"

    def put_in_place(self, step: int) -> None:
        """The finished checkpoint becomes the newest, and those before it go."""
        made = self.part(step)
        for file in made.iterdir():
            _to_disk(file)
        _to_disk(made)
        place = self.folder / made.name
        shutil.rmtree(place, ignore_errors=True)
        made.rename(place)
        _to_disk(self.folder)
        for other in self.folder.glob(f"{_PREFIX}*"):
            if other != place:
                shutil.rmtree(other, ignore_errors=True)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(_PREFIX))


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
