"""The /admin/v1 routes that move data: a tenant out and in, and a backup of everything."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from adapters_registry.archive import OutgoingArchive
from adapters_registry.staging import StagedFolder, Staging
from adapters_registry.types import Tenant, is_name
from gateway.admin_parts import change, parts_of
from gateway.admin_views import tenant_view
from gateway.auth import Caller, admin_caller, missing_tenant
from gateway.errors import InsufficientStorage, UnsupportedMediaType
from gateway.parts import Parts
from gateway.request_body import chunks
from gateway.threads import finish_in_thread

router = APIRouter()

Admin = Annotated[Caller, Depends(admin_caller)]
T = TypeVar("T")

_TAR = "application/x-tar"
_BATCH_BYTES = 2**20


class ArchiveResponse(Response):
    """Streams an archive, and closes it however that ends."""

    def __init__(self, archive: OutgoingArchive, file_name: str) -> None:
        headers = {
            "content-length": str(archive.size_bytes),
            "content-disposition": f'attachment; filename="{file_name}"',
            "cache-control": "no-store",
        }
        super().__init__(headers=headers, media_type=_TAR)
        self._archive = archive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pieces = iter(self._archive)
        gone = asyncio.create_task(_gone(receive))
        try:
            start = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
            while (piece := await finish_in_thread(next, pieces, None)) is not None:
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})
        finally:
            gone.cancel()
            await finish_in_thread(self._archive.close)


async def _gone(receive: Receive) -> None:
    """Returns when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


@router.get("/tenants/{t}/export")
async def export_tenant(request: Request, t: str, caller: Admin) -> ArchiveResponse:
    """All of the tenant but its keys, as a tar of plain files."""
    if not is_name(t):
        raise missing_tenant(t)
    archive = await finish_in_thread(parts_of(request).registry.export_tenant, t)
    return ArchiveResponse(archive, f"{t}.tar")


@router.post("/tenants/import")
async def import_tenant(
    request: Request, caller: Admin, name: str | None = None, reason: str | None = None
) -> JSONResponse:
    """Makes a tenant of such a tar, under its old name or another."""
    parts = parts_of(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TAR:
        raise UnsupportedMediaType(f"Send the archive of a tenant as `content-type: {_TAR}`.")
    async with _received(request, parts) as file:
        tenant = await change(parts, _import, parts, file, name, caller.actor, reason)
    return JSONResponse(tenant_view(tenant), 201)


@router.get("/backup")
async def back_up(request: Request, caller: Admin) -> ArchiveResponse:
    """All tables, keys as hashes among them, and all adapter files, as they are at one moment."""
    parts = parts_of(request)
    staging_dir = parts.settings.staging_dir
    await _store(partial(staging_dir.mkdir, mode=0o700, parents=True, exist_ok=True))
    archive = await finish_in_thread(parts.registry.backup, staging_dir)
    return ArchiveResponse(archive, f"loraplex-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar")


def _import(
    parts: Parts, archive: Path, name: str | None, actor: str, reason: str | None
) -> Tenant:
    with archive.open("rb") as file:
        return parts.registry.import_tenant(
            file,
            name=name,
            base=parts.base,
            base_name=parts.base_name,
            max_rank=parts.settings.max_lora_rank,
            max_weights_bytes=parts.settings.limits.upload_bytes,
            work_dir=archive.parent,
            actor=actor,
            reason=reason,
        )


class _Body:
    """The file that a body is written to, in a folder of its own. Its methods block."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._folder: StagedFolder | None = None
        self._file: BinaryIO | None = None

    def create(self) -> Path:
        self._folder = self._staging.make()
        path = self._folder.path / "archive.tar"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, 0o600), "wb")
        return path

    def write(self, content: bytes) -> None:
        assert self._file is not None
        self._file.write(content)
        self._file.flush()

    def remove(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._folder is not None:
            self._folder.remove()


@asynccontextmanager
async def _received(request: Request, parts: Parts) -> AsyncIterator[Path]:
    """The request's body in a file, which is gone when the block ends, however it ends.

    Raises PayloadTooLarge, RequestTimeout, BadRequest, InsufficientStorage.
    """
    settings = parts.settings
    body = _Body(Staging(settings.staging_dir))
    batch = bytearray()
    try:
        path = await _store(body.create)
        limit_bytes, idle_s = settings.limits.archive_bytes, settings.timeouts.body_s
        async for chunk in chunks(request, limit_bytes=limit_bytes, idle_s=idle_s):
            batch += chunk
            if len(batch) >= _BATCH_BYTES:
                await _store(partial(body.write, bytes(batch)))
                batch.clear()
        await _store(partial(body.write, bytes(batch)))
        yield path
    finally:
        await finish_in_thread(body.remove)


async def _store(step: Callable[[], T]) -> T:
    try:
        return await finish_in_thread(step)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "I/O error"
        raise InsufficientStorage(
            f"The archive could not be stored ({reason}). Nothing was changed."
        ) from None
