"""Artifacts in an archive: `artifacts/<digest>/<file>`, each content once."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from adapters_registry.adapter_config import MAX_CONFIG_BYTES
from adapters_registry.archive import Part, ReadArchive, refuse
from adapters_registry.artifacts import (
    CONFIG_FILE,
    FILES,
    ArtifactStore,
    StoredArtifact,
    content_digest,
    open_plain,
)
from adapters_registry.errors import StorageError

_FOLDER = "artifacts"
_MEMBER = re.compile(
    rf"{_FOLDER}/(?P<digest>[0-9a-f]{{64}})/(?P<file>{'|'.join(map(re.escape, FILES))})"
)


def parts(store: ArtifactStore, contents: Mapping[str, Mapping[str, str]]) -> list[Part]:
    """The members for these contents, which must all be there: digest to each file's SHA-256.

    Raises StorageError. The bytes are checked when they are read.
    """
    return [
        _part(store.at_hand(digest) / name, f"{_FOLDER}/{digest}/{name}", files[name])
        for digest, files in sorted(contents.items())
        for name in FILES
    ]


def most_bytes(name: str, weights_bytes: int) -> int | None:
    """The largest size of a member; None where it is not of an artifact."""
    found = _MEMBER.fullmatch(name)
    if found is None:
        return None
    return MAX_CONFIG_BYTES if found["file"] == CONFIG_FILE else weights_bytes


def check_digests(archive: ReadArchive, wanted: set[str]) -> None:
    """Raises InvalidArchive unless it holds these contents and no other, each what it says."""
    found: dict[str, dict[str, str]] = {}
    for name in archive.names:
        if member := _MEMBER.fullmatch(name):
            sha256 = archive.manifest.members[name].sha256
            found.setdefault(member["digest"], {})[member["file"]] = sha256
    for digest in sorted(wanted - found.keys()):
        raise refuse(f"the files of artifact {digest[:12]} are missing")
    for digest, files in found.items():
        if digest not in wanted:
            raise refuse(f"no version has the artifact {digest[:12]}")
        if files.keys() != set(FILES) or content_digest(files) != digest:
            raise refuse(f"the files of artifact {digest[:12]} do not have its digest")


@contextmanager
def unpacked(archive: ReadArchive, digest: str, work_dir: Path) -> Iterator[Path]:
    """A folder with the two files of a content, gone when the block ends."""
    with archive.folder(f"{_FOLDER}/{digest}", FILES, work_dir) as folder:
        yield folder


def keep(archive: ReadArchive, digest: str, store: ArtifactStore, work_dir: Path) -> StoredArtifact:
    """Stores a content. Raises StorageError."""
    with unpacked(archive, digest, work_dir) as folder:
        stored = store.put(folder)
    if stored.digest != digest:
        raise StorageError("the archive changed while it was read", field="archive")
    return stored


def _part(file: Path, name: str, sha256: str) -> Part:
    try:
        found = file.lstat()
    except OSError as error:
        raise StorageError(f"{name} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"{name} is no plain file")
    return Part(name, found.st_size, sha256, partial(_open, file))


def _open(file: Path) -> BinaryIO:
    return os.fdopen(open_plain(file), "rb")
