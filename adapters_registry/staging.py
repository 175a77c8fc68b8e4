"""Private folders for work under way, which no sweep takes away while they are in use.

A folder in use is locked. The lock ends with its process at the latest, so that what is left of a
killed one is known by having none.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class StagedFolder:
    """One folder in use, 0700."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock

    def remove(self) -> None:
        """Removes it with what is in it. Again, or after it was moved away, it does nothing."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


class Staging:
    """The folders below `root`, of this process and of others. Its methods may raise OSError."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def make(self) -> StagedFolder:
        """A new folder. `root` is made where it is missing."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._root / secrets.token_hex(16)
        # A sweep between the two steps would find a folder that nobody has locked yet.
        with _locked(self._root, fcntl.LOCK_SH):
            path.mkdir(mode=0o700)
            return StagedFolder(path, _lock(path, fcntl.LOCK_EX))

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for the length of the block; what the block moves away stays."""
        staged = self.make()
        try:
            yield staged.path
        finally:
            staged.remove()

    def sweep(self) -> int:
        """Removes the folders that are not in use. How many bytes their files had."""
        if not self._root.is_dir():
            return 0
        idle: list[tuple[Path, int]] = []
        with _locked(self._root, fcntl.LOCK_EX):
            for path in self._root.iterdir():
                with suppress(OSError):
                    idle.append((path, _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)))
        freed_bytes = 0
        for path, lock in idle:
            freed_bytes += _size_bytes(path)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
        return freed_bytes


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    lock = _lock(folder, kind)
    try:
        yield
    finally:
        os.close(lock)


def _lock(folder: Path, kind: int) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _size_bytes(folder: Path) -> int:
    size_bytes = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            size_bytes += file.lstat().st_size if file.is_file() else 0
    return size_bytes
