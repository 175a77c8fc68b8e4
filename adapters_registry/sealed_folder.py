"""A folder of files made once, with a list of their digests that tells whether it is whole."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, RootModel, ValidationError

SEAL = "sha256.json"

_SMALL_BYTES = 2**24


class _Listed(BaseModel):
    sha256: str
    size_bytes: int
    mtime_ns: int


class _Listing(RootModel[dict[str, _Listed]]):
    """File name -> what it was when it was listed."""


def write_list(folder: Path, files: Iterable[str], out: Path) -> None:
    """Puts the files on disk for good and lists them in `out`, which appears at once."""
    listing = _Listing({name: _list(folder / name) for name in files})
    aside = out.with_name(f"{out.name}.new")
    aside.write_text(listing.model_dump_json(indent=1))
    _sync(aside)
    aside.replace(out)
    _sync(folder)


def seal(folder: Path) -> None:
    """Lists every file of the folder inside it."""
    files = sorted(file.name for file in folder.iterdir() if file.name != SEAL)
    write_list(folder, files, folder / SEAL)


def holds(folder: Path, listing: Path, *, every_byte: bool = False) -> bool:
    """Whether the folder holds all that was listed, unchanged.

    Large files whose size and time are as they were pass unread, unless every_byte.
    """
    try:
        listed = _Listing.model_validate_json(listing.read_bytes()).root
        return bool(listed) and all(
            _is_as_listed(folder / name, was, every_byte) for name, was in listed.items()
        )
    except (OSError, ValidationError):
        return False


def is_intact(folder: Path, *, every_byte: bool = False) -> bool:
    """Whether a sealed folder is there and whole."""
    return holds(folder, folder / SEAL, every_byte=every_byte)


def replace(source: Path, target: Path) -> None:
    """Renames a folder into its place. What was there, a damaged one, goes."""
    damaged = source.with_name("damaged")
    shutil.rmtree(damaged, ignore_errors=True)
    if target.exists():
        target.rename(damaged)
    source.rename(target)
    _sync(target.parent)


def _is_as_listed(file: Path, was: _Listed, every_byte: bool) -> bool:
    found = file.stat()
    if found.st_size != was.size_bytes:
        return False
    if every_byte or found.st_size <= _SMALL_BYTES or found.st_mtime_ns != was.mtime_ns:
        return _sha256(file) == was.sha256
    return True


def _list(file: Path) -> _Listed:
    _sync(file)
    found = file.stat()
    return _Listed(sha256=_sha256(file), size_bytes=found.st_size, mtime_ns=found.st_mtime_ns)


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
