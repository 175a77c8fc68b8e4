"""Adapter files by their content: stored once, never changed, found by their digest alone.

The digest is the SHA-256 of a listing with one line a file, `<file's sha256>  <name>`, in the
order of the names, so that this prints it, on any machine, inside an artifact's folder:

    sha256sum adapter_config.json adapter_model.safetensors | sha256sum
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from adapters_registry.errors import ArtifactDamaged, StorageError
from adapters_registry.staging import Staging

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
FILES = (CONFIG_FILE, WEIGHTS_FILE)
"""The only files ever read or copied, in the listing's order."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """Where some content lies."""

    digest: str
    path: Path
    size_bytes: int
    files: Mapping[str, str]
    """Each file's SHA-256, by name."""


@dataclass(frozen=True, slots=True)
class Content:
    """Some content, whole or in part, as a listing of the store finds it."""

    digest: str
    size_bytes: int
    stored_at: datetime
    """When it was put, the last time."""


class Damage(StrEnum):
    """What can be wrong with content that should be there."""

    MISSING = "missing"
    DAMAGED = "damaged"


class ArtifactStore:
    """Folders `root/<first two digits>/<digest>/`, 0700, with files of 0600.

    Safe from several threads and processes: content is made aside and renamed into its place.
    A process killed in the middle leaves a folder under `root/tmp`, never a half artifact.
    """

    def __init__(self, root: Path) -> None:
        """Makes the folders. `root` becomes absolute. Raises StorageError."""
        self._root = root.absolute()
        self._aside = self._root / "tmp"
        self._staging = Staging(self._aside)
        with storing():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._aside.mkdir(mode=0o700, exist_ok=True)

    def put(self, folder: Path) -> StoredArtifact:
        """Stores the two files of `folder`, on disk for good when it returns.

        Content that is there already is checked, made anew where it is damaged, and counts as
        stored now. Raises StorageError.
        """
        with storing(), self._staging.folder() as staged:
            hashes = {name: _copy(folder / name, staged / name) for name in FILES}
            size_bytes = sum((staged / name).stat().st_size for name in FILES)
            sync_folder(staged)
            digest = content_digest(hashes)
            self._settle(staged, digest)
        return StoredArtifact(digest, self.path_of(digest), size_bytes, hashes)

    def path_of(self, digest: str) -> Path:
        """The absolute folder of a digest. Raises StorageError for what is no digest."""
        if _DIGEST.fullmatch(digest) is None:
            raise StorageError("an artifact's digest must be 64 hex digits", field="digest")
        return self._root / digest[:2] / digest

    def at_hand(self, digest: str) -> Path:
        """The folder of a digest with both files on this machine, which are not read here.

        Raises StorageError, ArtifactDamaged.
        """
        return self.path_of(digest)

    def verify(self, digest: str) -> Path:
        """The folder of a digest, once its files have been read and still hash to it.

        Raises ArtifactDamaged where a file is missing or damaged.
        """
        path = self.path_of(digest)
        with storing():
            if _hash(path) != digest:
                raise ArtifactDamaged(
                    f"artifact {digest[:12]} is damaged: push the adapter again to restore it",
                    field="digest",
                )
        return path

    def holds(self, digest: str) -> bool:
        """Whether both files are where they should be; they are not read."""
        path = self.path_of(digest)
        return all((path / name).is_file() for name in FILES)

    def check(self, digest: str) -> Damage | None:
        """Reads all of some content again; what is wrong with it. Raises StorageError."""
        path = self.path_of(digest)
        with storing():
            if not self.holds(digest):
                return Damage.MISSING
            return None if _hash(path) == digest else Damage.DAMAGED

    def contents(self) -> Iterator[Content]:
        """All that lies in the store, damaged and half contents too. Raises StorageError."""
        with storing():
            for path in self._root.glob("[0-9a-f][0-9a-f]/*"):
                if _DIGEST.fullmatch(path.name) and path.parent.name == path.name[:2]:
                    # Another process may be removing it.
                    with suppress(FileNotFoundError):
                        yield _content(path)

    def remove(self, digest: str, *, unless_after: datetime) -> bool:
        """Takes content out of the store at once, unless it was put after that time.

        Whether it did. The disk's space comes back with `sweep`. Raises StorageError.
        """
        path = self.path_of(digest)
        with storing():
            try:
                if _content(path).stored_at > unless_after:
                    return False
                path.rename(self._aside / secrets.token_hex(16))
            except FileNotFoundError:
                return False
        return True

    def sweep(self) -> None:
        """Frees the space of what was removed, and of what killed processes left half done."""
        with storing():
            self._staging.sweep()

    def _settle(self, staged: Path, digest: str) -> None:
        """Puts a complete folder in its place."""
        self._place(staged, digest)

    def _place(self, staged: Path, digest: str) -> None:
        target = self.path_of(digest)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        sync_folder(self._root)
        damaged = self._aside / secrets.token_hex(16)
        # A garbage collection may take the old content away between any two of these steps.
        with suppress(FileNotFoundError):
            if _hash(target) == digest:
                os.utime(target)
                return
            target.rename(damaged)
        try:
            staged.rename(target)
        except OSError:
            # Another process stored the same content between our look and our rename.
            if _hash(target) != digest:
                raise
        sync_folder(target.parent)
        shutil.rmtree(damaged, ignore_errors=True)


def open_plain(file: Path) -> int:
    """A descriptor to read a plain file with. Links, pipes and devices raise OSError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a plain file")
    return descriptor


def content_digest(hashes: Mapping[str, str]) -> str:
    """The digest of a content whose files, by name, have these SHA-256, in hex."""
    listing = "".join(f"{hashes[name]}  {name}\n" for name in FILES)
    return hashlib.sha256(listing.encode()).hexdigest()


def write_synced(target: Path, pieces: Iterator[bytes | memoryview]) -> str:
    """Writes a new file of 0600, on disk for good when it returns; its SHA-256."""
    sha256 = hashlib.sha256()
    created = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(created, "wb") as writer:
        for piece in pieces:
            sha256.update(piece)
            writer.write(piece)
        writer.flush()
        os.fsync(writer.fileno())
    return sha256.hexdigest()


def sync_folder(folder: Path) -> None:
    """A rename is on disk only once the folder that names it is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storing() -> Iterator[None]:
    """Turns what the system says of files into StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the adapter's files cannot be stored or read: {error.strerror}"
        ) from error


def _content(folder: Path) -> Content:
    """Raises FileNotFoundError where the folder is gone."""
    found = folder.stat()
    size_bytes = 0
    for name in FILES:
        with suppress(FileNotFoundError):
            size_bytes += (folder / name).lstat().st_size
    return Content(folder.name, size_bytes, datetime.fromtimestamp(found.st_mtime, UTC))


def _hash(folder: Path) -> str | None:
    """The digest of the files as they are; None where they cannot be read, whatever the reason."""
    try:
        return content_digest({name: _hash_file(folder / name) for name in FILES})
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise  # The files may be good.
        return None


def _hash_file(file: Path) -> str:
    with os.fdopen(open_plain(file), "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _copy(source: Path, target: Path) -> str:
    """Copies, syncs and hashes what was written, in one pass."""
    with os.fdopen(open_plain(source), "rb") as reader:
        return write_synced(target, iter(lambda: reader.read(_CHUNK_BYTES), b""))
