"""Archives taken apart and put together again, well or badly."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

from adapters_registry.errors import StorageError

MANIFEST = "manifest.json"


def unpack(content: bytes) -> dict[str, bytes]:
    """The members by name, in their order."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        found = {}
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
        return found


def pack(members: Mapping[str, bytes], /, **manifest: Any) -> bytes:
    """A tar whose manifest lists what is in it. manifest: fields to change."""
    said = json.loads(members[MANIFEST])
    listed = {
        name: {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in members.items()
        if name != MANIFEST
    }
    document = json.dumps(said | {"members": listed} | manifest).encode()
    return plain_tar(dict(members) | {MANIFEST: document})


def plain_tar(members: Mapping[str, bytes]) -> bytes:
    """A tar of plain files."""
    return tar_of(*((plain(name, len(content)), content) for name, content in members.items()))


def plain(name: str, size_bytes: int) -> tarfile.TarInfo:
    """The header of a plain file."""
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    return info


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar of any members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def edited(content: bytes, name: str, /, **changes: Any) -> bytes:
    """The archive with fields of one JSON document changed, and a manifest that fits."""
    members = unpack(content)
    members[name] = json.dumps(json.loads(members[name]) | changes).encode()
    return pack(members)


def sent_until_broken(archive: Iterable[bytes]) -> tuple[bytes, str]:
    """What comes of an archive that breaks off, and why it did."""
    sent = b""
    try:
        for chunk in archive:
            sent += chunk
    except StorageError as error:
        return sent, error.message
    raise AssertionError("it is whole")
