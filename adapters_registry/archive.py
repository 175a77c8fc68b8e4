"""Archives: a tar of plain files, of which the last, manifest.json, lists the others by digest.

Written as a stream whose size is known before its first byte. Read as if an enemy had written it:
nothing but headers of plain files with names that the caller allows, nothing unpacked by its own
name, and nothing used before all of it was read and has the digests that the manifest lists. A file
that was cut off anywhere has no manifest.
"""

import hashlib
import importlib.metadata
import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from adapters_registry.errors import InvalidArchive, StorageError
from adapters_registry.safetensors_header import shown

MANIFEST = "manifest.json"
FORMAT = 1
MOST_JSON_BYTES = 64 * 2**20
"""Of one JSON document, or of one line of a table."""

_MOST_MEMBERS = 500_000
_BLOCK = tarfile.BLOCKSIZE
_CHUNK_BYTES = 2**20
_END = bytes(2 * _BLOCK)


class Kind(StrEnum):
    """What an archive is of."""

    TENANT = "tenant"
    BACKUP = "backup"


class Listed(BaseModel):
    """One member as the manifest lists it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """The last member: what the archive is, and all of the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    kind: Kind
    release: str
    """Of Loraplex, that made it."""
    made_at: AwareDatetime
    database_schema: str | None = None
    """Of a backup, the migration that its tables are at."""
    counts: dict[str, int]
    members: dict[str, Listed]


@dataclass(frozen=True, slots=True)
class Part:
    """A member of an archive to be written."""

    name: str
    size_bytes: int
    sha256: str
    open: Callable[[], BinaryIO]


def document(name: str, content: bytes) -> Part:
    """A member that is in memory."""
    return Part(
        name, len(content), hashlib.sha256(content).hexdigest(), lambda: io.BytesIO(content)
    )


class OutgoingArchive:
    """The bytes of an archive. Iterate over it once, and close it however that ends.

    The iteration blocks. It raises StorageError where a file is not what the database says; what
    was written until then is no archive, since its manifest is missing.
    """

    def __init__(
        self,
        kind: Kind,
        parts: Sequence[Part],
        counts: Mapping[str, int],
        *,
        database_schema: str | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """close: called once or more, ends what the parts need."""
        manifest = Manifest(
            format=FORMAT,
            kind=kind,
            release=importlib.metadata.version("loraplex"),
            made_at=datetime.now(UTC),
            database_schema=database_schema,
            counts=dict(counts),
            members={
                part.name: Listed(size_bytes=part.size_bytes, sha256=part.sha256) for part in parts
            },
        )
        self._parts = [*parts, document(MANIFEST, manifest.model_dump_json(indent=1).encode())]
        self._at_s = int(manifest.made_at.timestamp())
        self.close = close

    @property
    def size_bytes(self) -> int:
        """Of the whole archive."""
        return sum(_BLOCK + _padded(part.size_bytes) for part in self._parts) + len(_END)

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            yield _header(part, self._at_s)
            yield from _content(part)
            yield bytes(_padded(part.size_bytes) - part.size_bytes)
        yield _END


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a member's content lies."""

    offset: int
    size_bytes: int


class ReadArchive:
    """An archive in a file, read to its end once and found whole."""

    def __init__(self, file: BinaryIO, kind: Kind, most_bytes: Callable[[str], int | None]) -> None:
        """most_bytes: the largest size of a member by its name; None for a name that is not known.

        Raises InvalidArchive, or StorageError where the file cannot be read.
        """
        self._file = file
        self._places: dict[str, _Place] = {}
        with _reading():
            found = self._scan(most_bytes)
        self.manifest = self._check(found, kind)

    @property
    def names(self) -> Sequence[str]:
        """All members but the manifest."""
        return list(self._places)

    def read(self, name: str) -> bytes:
        """A document. Raises InvalidArchive where it is missing."""
        if name not in self._places:
            raise refuse(f"{shown(name)} is missing")
        return b"".join(self._chunks(self._places[name]))

    def lines(self, name: str) -> Iterator[bytes]:
        """A member line by line; no other may be read meanwhile."""
        place = self._places[name]
        left = place.size_bytes
        with _reading():
            self._file.seek(place.offset)
            while left:
                line = self._file.readline(min(left, MOST_JSON_BYTES))
                if not line.endswith(b"\n"):
                    raise refuse(f"{shown(name)} has a line without an end")
                left -= len(line)
                yield line

    def copy(self, name: str, target: Path) -> None:
        """Writes a member to a new file. Raises StorageError."""
        if name not in self._places:
            raise refuse(f"{shown(name)} is missing")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with _reading(), os.fdopen(os.open(target, flags, 0o600), "wb") as writer:
            for chunk in self._chunks(self._places[name]):
                writer.write(chunk)

    @contextmanager
    def folder(self, prefix: str, files: Sequence[str], work_dir: Path) -> Iterator[Path]:
        """A private folder with these files of `prefix`, gone when the block ends."""
        with _reading():
            made = tempfile.TemporaryDirectory(dir=work_dir)
        with made as path:
            for name in files:
                self.copy(f"{prefix}/{name}", Path(path) / name)
            yield Path(path)

    def _scan(self, most_bytes: Callable[[str], int | None]) -> dict[str, Listed]:
        """Reads to the end; what was found, the manifest included, which must be the last."""
        self._file.seek(0)
        found: dict[str, Listed] = {}
        while MANIFEST not in found:
            header = self._file.read(_BLOCK)
            name, size_bytes = _parse_header(header)
            if name in found:
                raise refuse(f"{shown(name)} is there twice")
            most = MOST_JSON_BYTES if name == MANIFEST else most_bytes(name)
            if most is None:
                raise refuse(f"{shown(name)} is no member of such an archive")
            if size_bytes > most:
                raise refuse(f"{shown(name)} is larger than {most} bytes")
            if len(found) == _MOST_MEMBERS:
                raise refuse(f"it has more than {_MOST_MEMBERS} members")
            found[name] = self._take(name, size_bytes)
        if len(end := self._file.read(len(_END))) < len(_END) or any(end):
            raise refuse(f"something other than its end comes after {MANIFEST}")
        while rest := self._file.read(_CHUNK_BYTES):
            if any(rest):
                raise refuse("something comes after its end")
        return found

    def _take(self, name: str, size_bytes: int) -> Listed:
        place = _Place(self._file.tell(), size_bytes)
        sha256 = hashlib.sha256()
        for chunk in self._chunks(place):
            sha256.update(chunk)
        padding = _padded(size_bytes) - size_bytes
        if len(self._file.read(padding)) < padding:
            raise _torn()
        self._places[name] = place
        return Listed(size_bytes=size_bytes, sha256=sha256.hexdigest())

    def _chunks(self, place: _Place) -> Iterator[bytes]:
        with _reading():
            self._file.seek(place.offset)
            left = place.size_bytes
            while left:
                chunk = self._file.read(min(left, _CHUNK_BYTES))
                if not chunk:
                    raise _torn()
                left -= len(chunk)
                yield chunk

    def _check(self, found: dict[str, Listed], kind: Kind) -> Manifest:
        content = self.read(MANIFEST)
        del found[MANIFEST], self._places[MANIFEST]
        try:
            manifest = Manifest.model_validate_json(content, strict=True)
        except ValidationError as error:
            raise invalid(MANIFEST, error) from None
        if manifest.format != FORMAT:
            raise refuse(
                f"it has format {manifest.format}, and this release reads format {FORMAT}: use the"
                f" release that made it, {shown(manifest.release)}"
            )
        if manifest.kind is not kind:
            raise refuse(f"it is an archive of a {manifest.kind}, wanted is one of a {kind}")
        for name in sorted(manifest.members.keys() ^ found.keys()):
            where = "is missing" if name in manifest.members else f"is not in {MANIFEST}"
            raise refuse(f"{shown(name)} {where}")
        for name, listed in manifest.members.items():
            if found[name] != listed:
                raise refuse(f"{shown(name)} is damaged: its content is not the one listed")
        return manifest


def refuse(reason: str) -> InvalidArchive:
    """The refusal of an archive, in words that fit after its name."""
    return InvalidArchive(f"archive: {reason}", field="archive")


def invalid(name: str, error: ValidationError) -> InvalidArchive:
    """The refusal of a document by its first fault; never repeats its content."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(map(str, problem["loc"]))
    return refuse(f"{shown(name)}: {field and field + ': '}{problem['msg']}")


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // _BLOCK) * _BLOCK


def _header(part: Part, at_s: int) -> bytes:
    info = tarfile.TarInfo(part.name)
    info.size, info.mtime, info.mode = part.size_bytes, at_s, 0o600
    header = info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")
    assert len(header) == _BLOCK  # every name we give is short enough for one
    return header


def _content(part: Part) -> Iterator[bytes]:
    sha256, left = hashlib.sha256(), part.size_bytes
    with _reading():
        source = part.open()
    with source:
        while left:
            with _reading():
                chunk = source.read(min(left, _CHUNK_BYTES))
            if not chunk:
                break
            sha256.update(chunk)
            left -= len(chunk)
            if left == 0 and sha256.hexdigest() != part.sha256:
                break
            yield chunk
    if sha256.hexdigest() != part.sha256:
        raise StorageError(f"{part.name} is damaged, so the archive was left unfinished")


def _parse_header(header: bytes) -> tuple[str, int]:
    """The name and size of a plain file."""
    if len(header) < _BLOCK or not any(header):
        raise _torn()
    try:
        info = tarfile.TarInfo.frombuf(header, "ascii", "replace")
    except tarfile.HeaderError:
        raise refuse("it is no tar, or a header of it is damaged") from None
    if info.type != tarfile.REGTYPE or info.size < 0:
        raise refuse(f"{shown(info.name)} is no plain file, and nothing else is taken")
    return info.name, info.size


def _torn() -> InvalidArchive:
    return refuse("it ends before its manifest: it was cut off, make or send it again")


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"an archive cannot be read or written: {error.strerror}") from error
