"""An adapter on its way in: uploaded in parts or fetched, into a staging folder, under caps."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from fastapi import Request
from pydantic import BaseModel, ConfigDict
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from adapters_registry.artifacts import CONFIG_FILE, WEIGHTS_FILE
from adapters_registry.staging import StagedFolder, Staging
from adapters_registry.types import Evaluation, Lineage, ServingProfile
from gateway.errors import BadRequest, InsufficientStorage, PayloadTooLarge, UnsupportedMediaType
from gateway.request_body import chunks, parse_json
from gateway.threads import finish_in_thread

METADATA_FILE: Final = "metadata.json"

_PARTS = f"{CONFIG_FILE}, {WEIGHTS_FILE} and optionally {METADATA_FILE}"
_BATCH_BYTES = 2**20
_BATCH_PIECES = 1024
_BOUNDARY_CHARS = 70  # RFC 2046


class Metadata(BaseModel):
    """What metadata.json may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    serving_profile: ServingProfile = ServingProfile()
    lineage: Lineage = Lineage()
    evaluation: Evaluation | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that an upload may hold."""

    weights_bytes: int
    json_bytes: int = 2**20
    """Of adapter_config.json, and of metadata.json."""
    header_bytes: int = 8192
    """Of one part's headers."""

    @property
    def parts(self) -> dict[str, int]:
        """Each part's name and its largest size."""
        return {
            CONFIG_FILE: self.json_bytes,
            WEIGHTS_FILE: self.weights_bytes,
            METADATA_FILE: self.json_bytes,
        }

    @property
    def total_bytes(self) -> int:
        """Of the whole body, with the framing."""
        framing = self.header_bytes + _BOUNDARY_CHARS + 8
        return sum(self.parts.values()) + framing * (len(self.parts) + 1)


@dataclass(frozen=True, slots=True)
class Upload:
    """A complete upload; the folder holds the config and the weights and nothing else."""

    folder: Path
    metadata: Metadata


@asynccontextmanager
async def staged(
    request: Request, staging_dir: Path, caps: Caps, idle_s: float
) -> AsyncIterator[Upload]:
    """The upload in `request`, whose folder is gone when the block ends, however it ends.

    Raises UnsupportedMediaType, BadRequest, PayloadTooLarge, RequestTimeout, InsufficientStorage.
    """
    reader = PartReader(_boundary(request.headers.get("content-type", "")), caps)
    files = _PartFiles(staging_dir)
    try:
        await _store(files.create)
        await _fill(request, reader, files, caps, idle_s)
        yield Upload(files.folder, files.metadata())
    finally:
        await finish_in_thread(files.remove)


@asynccontextmanager
async def fetched(
    fetch: Callable[[Path], None], metadata: Metadata, staging_dir: Path
) -> AsyncIterator[Upload]:
    """As `staged`, with the files that `fetch` writes into the folder it is given; it may block.

    Raises InsufficientStorage, and what `fetch` raises.
    """
    files = _PartFiles(staging_dir)
    try:
        await _store(files.create)
        await _store(partial(fetch, files.folder))
        yield Upload(files.folder, metadata)
    finally:
        await finish_in_thread(files.remove)


def sweep(staging_dir: Path) -> None:
    """Removes what uploads of killed processes left, and nothing of those under way elsewhere."""
    with suppress(OSError):
        Staging(staging_dir).sweep()


class PartReader:
    """Multipart bytes in, `(part name, bytes)` out; enforces every cap. Does no I/O.

    A part is known by its form name alone: a filename is never looked at.
    """

    def __init__(self, boundary: bytes, caps: Caps) -> None:
        self._caps = caps
        self._sizes: dict[str, int] = {}
        self._pieces: list[tuple[str, bytes]] = []
        self._part: str | None = None
        self._complete = False
        self._header_bytes = 0
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_name,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> list[tuple[str, bytes]]:
        """The pieces of parts that `chunk` brought, in order."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise BadRequest(
                "The body is not well-formed multipart/form-data.", code="malformed_multipart"
            ) from None
        pieces, self._pieces = self._pieces, []
        return pieces

    def finish(self) -> None:
        """Raises BadRequest unless the body ended properly, with all the parts it needs."""
        if not self._complete:
            raise BadRequest(
                "The multipart body ends before its closing boundary.", code="malformed_multipart"
            )
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if name not in self._sizes:
                raise BadRequest(f"The part {name} is missing; send {_PARTS}.", param=name)

    def _on_part_begin(self) -> None:
        self._part = None
        self._header_bytes = 0
        self._disposition = b""

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._caps.header_bytes:
            raise PayloadTooLarge(
                f"A part's headers are larger than {self._caps.header_bytes} bytes."
            )

    def _on_header_end(self) -> None:
        self._count_header(len(": \r\n"))
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("latin-1")
        if kind != b"form-data" or name not in self._caps.parts:
            raise BadRequest(f"A part has an unknown name; send {_PARTS}.", code="unknown_part")
        if name in self._sizes:
            raise BadRequest(f"The part {name} was sent twice.", param=name)
        self._part = name
        self._sizes[name] = 0
        # An empty part makes an empty file, which the registry then refuses by name.
        self._pieces.append((name, b""))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part is None:
            raise BadRequest("A part has no headers.", code="malformed_multipart")
        self._sizes[self._part] += end - start
        cap = self._caps.parts[self._part]
        if self._sizes[self._part] > cap:
            raise PayloadTooLarge(f"{self._part} is larger than {cap} bytes.", param=self._part)
        self._pieces.append((self._part, data[start:end]))

    def _on_end(self) -> None:
        self._complete = True


class _PartFiles:
    """The staging folder of one upload. Its methods block; only `metadata` does not."""

    def __init__(self, staging_dir: Path) -> None:
        self._staging = Staging(staging_dir)
        self._staged: StagedFolder | None = None
        self._open: dict[str, int] = {}
        self._metadata = bytearray()

    @property
    def folder(self) -> Path:
        assert self._staged is not None
        return self._staged.path

    def create(self) -> None:
        self._staged = self._staging.make()

    def write(self, pieces: list[tuple[str, bytes]]) -> None:
        for name, data in pieces:
            if name == METADATA_FILE:
                self._metadata += data
            else:
                _write_all(self._descriptor(name), data)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def remove(self) -> None:
        self.close()
        if self._staged is not None:
            self._staged.remove()

    def metadata(self) -> Metadata:
        """Raises BadRequest that names the field."""
        if not self._metadata:
            return Metadata()
        try:
            return parse_json(bytes(self._metadata), Metadata)
        except BadRequest as error:
            field = f"{METADATA_FILE}: {error.param}" if error.param else METADATA_FILE
            raise BadRequest(
                f"{METADATA_FILE}: {error.message}", param=field, code="invalid_metadata"
            ) from None

    def _descriptor(self, name: str) -> int:
        """`name` comes from the fixed list of parts, never from a client."""
        if name not in self._open:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._open[name] = os.open(self.folder / name, flags, 0o600)
        return self._open[name]


async def _fill(
    request: Request, reader: PartReader, files: _PartFiles, caps: Caps, idle_s: float
) -> None:
    """Writes in batches, since a hop to a thread for every network chunk is dear."""
    batch: list[tuple[str, bytes]] = []
    size_bytes = 0
    async for chunk in chunks(request, limit_bytes=caps.total_bytes, idle_s=idle_s):
        batch += reader.feed(chunk)
        size_bytes += len(chunk)
        if size_bytes >= _BATCH_BYTES or len(batch) >= _BATCH_PIECES:
            full, batch, size_bytes = batch, [], 0
            await _store(partial(files.write, full))
    reader.finish()
    await _store(partial(files.write, batch))
    await _store(files.close)


async def _store(step: Callable[[], None]) -> None:
    try:
        await finish_in_thread(step)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "I/O error"
        raise InsufficientStorage(
            f"The upload could not be stored ({reason}). Nothing was changed."
        ) from None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise UnsupportedMediaType(
            f"Send the adapter as multipart/form-data with the parts {_PARTS}."
        )
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _BOUNDARY_CHARS:
        raise BadRequest(
            f"The content type needs a boundary of 1 to {_BOUNDARY_CHARS} characters.",
            param="content-type",
        )
    return boundary
