"""The /admin/v1 route of a version's two files, as they lie in the artifact store."""

import asyncio
import os
import stat
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from adapters_registry.artifacts import FILES
from adapters_registry.errors import StorageError
from gateway.admin_parts import (
    AdapterRef,
    VersionNumber,
    adapter_manager,
    parts_of,
    read_version,
)
from gateway.errors import NotFound
from gateway.threads import finish_in_thread

router = APIRouter(prefix="/tenants/{t}/adapters/{a}/versions/{n}/files")

Managed = Annotated[AdapterRef, Depends(adapter_manager)]


class WholeFile(FileResponse):
    """Streams all of a file. Range is ignored: its refusals have another shape than our errors."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


@router.get("/{name}")
async def get_file(request: Request, ref: Managed, n: VersionNumber, name: str) -> WholeFile:
    parts = parts_of(request)
    version = read_version(parts, ref, n)
    if name not in FILES:
        raise NotFound(f"A version's files are {' and '.join(FILES)}.", param="name")
    file = await finish_in_thread(parts.registry.artifacts.at_hand, version.digest) / name
    return WholeFile(
        file,
        # In this API an ETag names what an answer is a state of: here the content.
        headers={"accept-ranges": "none", "etag": f'"{version.digest}"'},
        stat_result=await asyncio.to_thread(_plain_file, file),
    )


def _plain_file(file: Path) -> os.stat_result:
    """What the system says of a file, before an answer of 200 has begun."""
    try:
        found = file.lstat()
    except OSError as error:
        raise StorageError(f"a version's file cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise StorageError("a version's file is not a plain file")
    return found
