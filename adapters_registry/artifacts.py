"""Adapter files by their content: stored once, never changed, found by their digest alone.

The digest is the SHA-256 of a listing with one line a file, `<file's sha256>  <name>`, in the
order of the names, so that this prints it, on any machine, inside an artifact's folder:

    sha256sum adapter_config.json adapter_model.safetensors | sha256sum
"""

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters_registry.errors import StorageError

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


class ArtifactStore:
    """Folders `root/<first two digits>/<digest>/`, 0700, with files of 0600.

    Safe from several threads and processes: content is made aside and renamed into its place.
    A process killed in the middle leaves a folder under `root/tmp`, never a half artifact.
    """

    def __init__(self, root: Path) -> None:
        """Makes the folders. `root` becomes absolute. Raises StorageError."""
        self._root = root.absolute()
        self._staging = self._root / "tmp"
        with _storing():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._staging.mkdir(mode=0o700, exist_ok=True)

    def put(self, folder: Path) -> StoredArtifact:
        """Stores the two files of `folder`, on disk for good when it returns.

        Content that is there already is checked, and made anew where it is damaged.
        Raises StorageError.
        """
        with _storing():
            staged = Path(tempfile.mkdtemp(dir=self._staging))
            try:
                hashes = {name: _copy(folder / name, staged / name) for name in FILES}
                size_bytes = sum((staged / name).stat().st_size for name in FILES)
                _sync_folder(staged)
                digest = content_digest(hashes)
                self._place(staged, digest)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
        return StoredArtifact(digest, self.path_of(digest), size_bytes)

    def path_of(self, digest: str) -> Path:
        """The absolute folder of a digest. Raises StorageError for what is no digest."""
        if _DIGEST.fullmatch(digest) is None:
            raise StorageError("an artifact's digest must be 64 hex digits", field="digest")
        return self._root / digest[:2] / digest

    def verify(self, digest: str) -> Path:
        """The folder of a digest, once its files have been read and still hash to it.

        Raises StorageError where a file is missing or damaged.
        """
        path = self.path_of(digest)
        with _storing():
            if self._hash(path) != digest:
                raise StorageError(
                    f"artifact {digest[:12]} is damaged: push the adapter again to restore it",
                    field="digest",
                )
        return path

    def _place(self, staged: Path, digest: str) -> None:
        target = self.path_of(digest)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(self._root)
        if target.exists():
            if self._hash(target) == digest:
                return
            target.rename(staged.with_suffix(".damaged"))
        try:
            staged.rename(target)
        except OSError:
            # Another process stored the same content between our look and our rename.
            if self._hash(target) != digest:
                raise
        _sync_folder(target.parent)
        shutil.rmtree(staged.with_suffix(".damaged"), ignore_errors=True)

    def _hash(self, folder: Path) -> str | None:
        try:
            return content_digest({name: _hash_file(folder / name) for name in FILES})
        except FileNotFoundError:
            return None


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


def _hash_file(file: Path) -> str:
    with os.fdopen(open_plain(file), "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _copy(source: Path, target: Path) -> str:
    """Copies, syncs and hashes what was written, in one pass."""
    sha256 = hashlib.sha256()
    created = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(created, "wb") as writer, os.fdopen(open_plain(source), "rb") as reader:
        while chunk := reader.read(_CHUNK_BYTES):
            sha256.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return sha256.hexdigest()


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only once the folder that names it is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the adapter's files cannot be stored or read: {error.strerror}"
        ) from error
