"""A run's folder: which run it holds, one process at a time, files that are whole or not there."""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from training.errors import TrainingError

RECIPE = "recipe.yaml"
DATA = "data"
DATA_SUMMARY = "data.json"
FIT = "fit"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
FITTED = "fitted.json"
ADAPTER = "adapter"
EVALUATION = "evaluation.json"
ANSWERS = "answers.jsonl"
REPORT = "report.json"
PAGE = "report.html"
ENVIRONMENT = "environment.json"
METADATA = "metadata.json"

_MARK = "run.json"
_LOCK = ".lock"
_ASIDE = ".aside-"
# The latest stage first: however far a removal came, what is left is a run at an earlier stage.
_REMOVED = (
    REPORT,
    PAGE,
    ANSWERS,
    EVALUATION,
    ADAPTER,
    FITTED,
    METRICS,
    TENSORBOARD,
    FIT,
    DATA_SUMMARY,
    DATA,
    ENVIRONMENT,
    RECIPE,
    _MARK,
)

M = TypeVar("M", bound=BaseModel)


class Mark(BaseModel):
    """Whose folder it is. id: of this one run, so that its version is known in a registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    id: str
    started_at: str


@dataclass(frozen=True, slots=True)
class RunFolder:
    """An open run folder. What is written appears whole or not at all."""

    path: Path
    mark: Mark

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def has(self, name: str) -> bool:
        """Whether that file or folder is there, and so whole."""
        return (self.path / name).exists()

    def write(self, name: str, content: str | bytes) -> None:
        """Puts a file in place of what was there."""
        aside = self.path / f"{_ASIDE}{name}"
        data = content.encode() if isinstance(content, str) else content
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.path / name)

    def write_json(self, name: str, value: BaseModel | Mapping[str, Any]) -> None:
        """A file with one JSON object."""
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        self.write(name, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")

    def write_lines(self, name: str, values: Iterator[Mapping[str, Any]]) -> None:
        """A file with one JSON object a line."""
        lines = (json.dumps(value, ensure_ascii=False) + "\n" for value in values)
        self.write(name, "".join(lines))

    def read(self, name: str, kind: type[M]) -> M | None:
        """The object in a file; None where the file is not there. Raises TrainingError."""
        try:
            return kind.model_validate_json((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise TrainingError(
                f"{self.path / name} was changed by hand, or written by another version of "
                "Loraplex; run with --again, which makes the run anew"
            ) from error

    @contextmanager
    def making(self, name: str) -> Iterator[Path]:
        """A new folder, which takes its place when the block ends well."""
        aside = self.path / f"{_ASIDE}{name}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        yield aside
        shutil.rmtree(self.path / name, ignore_errors=True)
        aside.rename(self.path / name)

    def remove(self, name: str) -> None:
        """Removes a file or a folder, if it is there."""
        _remove(self.path / name)


@contextmanager
def open_run(path: Path, digest: str, *, again: bool = False) -> Iterator[RunFolder]:
    """The folder of the run with this digest, held for this process alone while the block runs.

    It is made where it is missing. again: a run that is in it, this or another, is removed.
    Raises TrainingError where another run, another process or something else has the folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise TrainingError(f"the run's folder {path}: {error.strerror}") from error
    try:
        _take(lock, path)
        yield RunFolder(path, _marked(path, digest, again=again))
    finally:
        os.close(lock)


def run_digest(parts: Mapping[str, str]) -> str:
    """Of all that a run is made from."""
    text = json.dumps(dict(parts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _take(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TrainingError(
            f"{path} is in use by another process; wait for it, or name another folder with --out"
        ) from error


def _marked(path: Path, digest: str, *, again: bool) -> Mark:
    for aside in path.glob(f"{_ASIDE}*"):  # a killed process left it
        _remove(aside)
    mark = _read_mark(path)
    if mark is not None and again:
        for name in _REMOVED:
            _remove(path / name)
        mark = None
    if mark is None:
        return _new_mark(path, digest)
    if mark.digest != digest:
        raise TrainingError(
            f"{path} holds another run: its recipe, data or base differ. Name another folder with "
            "--out, or run with --again, which removes that run and makes this one in its place"
        )
    return mark


def _read_mark(path: Path) -> Mark | None:
    try:
        return Mark.model_validate_json((path / _MARK).read_bytes())
    except FileNotFoundError:
        if any(entry.name != _LOCK for entry in path.iterdir()):
            raise TrainingError(
                f"{path} holds files that are no run of `loraplex train`; name a new folder with "
                "--out"
            ) from None
        return None
    except ValidationError as error:
        raise TrainingError(f"{path / _MARK} is damaged; name a new folder with --out") from error


def _new_mark(path: Path, digest: str) -> Mark:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    mark = Mark(digest=digest, id=secrets.token_hex(8), started_at=now)
    folder = RunFolder(path, mark)
    folder.write_json(_MARK, mark)
    return mark


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
