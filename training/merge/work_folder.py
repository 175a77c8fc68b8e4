"""The folder beside OUT in which a merge grows, so that a killed one goes on where it was.

`.OUT.merging` holds `model`, which becomes OUT when all is in it; the file that is being written;
and a journal of the files that are whole, with the fingerprint of the merge they belong to.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from training.errors import MergeError
from training.merge.part_file import Whole

_JOURNAL = "journal.json"
_MODEL = "model"
_SCRATCH = "scratch"
_PART = ".part"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int
    sha256: str


class _Journal(BaseModel):
    """fingerprint: of the merge. files: those that are whole, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    files: dict[str, _Entry]


class WorkFolder:
    """An open work folder, held by this process alone. Its methods may raise OSError.

    kept: the files that are whole, of this merge, with what they were when they were written.
    scratch: an empty folder for what the end takes away.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / _MODEL
        self.scratch = path / _SCRATCH
        self.kept: dict[str, Whole] = {}
        self._fingerprint = ""

    def resume(self, fingerprint: str, checked: Callable[[int, int], None]) -> bool:
        """Keeps what an earlier run of this same merge left whole, and removes all else.

        Every byte of it is read again; checked is told how many of how many. Gives back False where
        what was left was of another merge.
        """
        journal = _read_journal(self.path / _JOURNAL)
        same = journal is None or journal.fingerprint == fingerprint
        if journal is not None and same:
            self._take_over(journal.files, checked)
        self._fingerprint = fingerprint
        self.model.mkdir(exist_ok=True)
        self.tidy()
        self._write_journal()
        return same

    def _take_over(self, files: Mapping[str, _Entry], checked: Callable[[int, int], None]) -> None:
        done, total = 0, sum(entry.size_bytes for entry in files.values())
        for name, entry in files.items():
            whole = Whole(entry.size_bytes, entry.sha256)
            checked(done, total)
            if _is_whole(self.model / name, whole):
                self.kept[name] = whole
            done += entry.size_bytes

    def part(self, name: str) -> Path:
        """Where a file lies until it is whole."""
        return self.path / f"{name}{_PART}"

    def keep(self, name: str, whole: Whole) -> None:
        """Puts a file that is on the disk in its place, for good."""
        self.part(name).replace(self.model / name)
        _sync(self.model)
        self.kept[name] = whole
        self._write_journal()

    def tidy(self) -> None:
        """Removes what is neither kept nor the journal."""
        for path in (*self.path.iterdir(), *self.model.iterdir()):
            if path.name not in self.kept and path not in (self.model, self.path / _JOURNAL):
                _remove(path)

    def publish(self, out: Path) -> None:
        """Makes the model's folder OUT, with all its files on the disk, and ends this folder."""
        for file in self.model.rglob("*"):
            if file.name not in self.kept:
                _sync(file)
        _sync(self.model)
        check_free(out)
        self.model.rename(out)
        _sync(out.parent)
        shutil.rmtree(self.path)

    def _write_journal(self) -> None:
        entries = {
            name: _Entry(size_bytes=whole.size_bytes, sha256=whole.sha256)
            for name, whole in self.kept.items()
        }
        journal = _Journal(fingerprint=self._fingerprint, files=entries)
        aside = self.part(_JOURNAL)
        aside.write_text(journal.model_dump_json(indent=1) + "\n")
        _sync(aside)
        aside.replace(self.path / _JOURNAL)
        _sync(self.path)


@contextmanager
def open_work(out: Path) -> Iterator[WorkFolder]:
    """The work folder of the merge into `out`, made where it is missing; removed at the end where
    nothing in it is of use. Raises MergeError where `out` is there or another process has it.
    """
    path = out.with_name(f".{out.name}.merging")
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MergeError(f"{path} cannot be made: {error.strerror}") from error
    try:
        _take(lock, path, out)
    except MergeError:
        os.close(lock)
        raise
    try:
        check_free(out)
        yield WorkFolder(path)
    finally:
        _leave(path)
        os.close(lock)


def check_free(out: Path) -> None:
    """Raises MergeError where `out` is there: nothing is ever overwritten."""
    if out.exists() or out.is_symlink():
        raise MergeError(f"{out} is there already: name a new folder with --out, or remove it")


def _leave(path: Path) -> None:
    """Takes away what no later run can use."""
    model = path / _MODEL
    with suppress(OSError):  # what led here matters more
        if not model.is_dir() or not any(model.iterdir()):
            shutil.rmtree(path)
        for part in path.glob(f"*{_PART}"):
            part.unlink()


def _take(lock: int, path: Path, out: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise MergeError(
            f"another merge into {out} is under way; wait for it, or name another folder with --out"
        ) from error
    try:
        same = os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        same = False
    if not same:  # the other one ended between our two steps
        raise MergeError(f"another merge into {out} has just ended: run this one again")


def _read_journal(file: Path) -> _Journal | None:
    """None where there is none, or none that can be read."""
    try:
        return _Journal.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _is_whole(file: Path, whole: Whole) -> bool:
    try:
        with file.open("rb") as source:
            if os.fstat(source.fileno()).st_size != whole.size_bytes:
                return False
            return hashlib.file_digest(source, "sha256").hexdigest() == whole.sha256
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
