"""A version's files from a gateway into a folder on disk: whole and checked, or not at all."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loraplex.client import calls
from loraplex.client.answers import VersionRecord
from loraplex.client.call import Moved, Steps, unseen
from loraplex.client.errors import Damaged, UnusableFolder
from loraplex.client.folder import CONFIG, METADATA, WEIGHTS


def download(
    tenant: str, adapter: str, version: int, folder: Path, *, received: Moved = unseen
) -> Steps[VersionRecord]:
    """Makes `folder`, its owner's alone, with the version's files, profile and lineage.

    It can be pushed again. It appears when all is there and has the version's digest. Blocks are
    written as they come, in the async client too.
    Raises UnusableFolder where something would be overwritten, Damaged, OSError; then no file is
    left.
    """
    check_free(folder)
    record: VersionRecord = yield calls.version(tenant, adapter, version)
    with _made_aside(folder) as made:
        hashes = {}
        for name in (CONFIG, WEIGHTS):
            with (made / name).open("xb") as file:
                sha256 = hashlib.sha256()

                def take(block: bytes, file: Any = file, sha256: Any = sha256) -> None:
                    file.write(block)
                    sha256.update(block)
                    received(len(block))

                yield calls.read_file(tenant, adapter, version, name, take=take)
            hashes[name] = sha256.hexdigest()
        _check_digest(hashes, f"{tenant}/{adapter}@{version}", record["digest"])
        if said := _said(record):
            text = json.dumps(said, indent=2)
            (made / METADATA).write_text(f"{text}\n", encoding="utf-8")
    return record


def check_free(folder: Path) -> None:
    """Raises UnusableFolder unless `folder` is missing or empty."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UnusableFolder(f"{folder} is there and is no folder; name a new one")
    if not folder.exists():
        return
    if folder.samefile(Path.cwd()):
        # A rename would leave the person's shell in a folder that is gone.
        raise UnusableFolder(f"{folder} is the folder you are in; name a new one")
    if any(folder.iterdir()):
        raise UnusableFolder(f"{folder} is not empty; name a new folder")


@contextmanager
def _made_aside(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, which becomes it if the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield made
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _check_digest(hashes: dict[str, str], label: str, digest: str) -> None:
    from adapters_registry.artifacts import content_digest

    found = content_digest(hashes)
    if found != digest:
        raise Damaged(
            f"what came is not {label}: its digest is {found[:12]} instead of {digest[:12]}, so "
            "nothing was kept; pull again, and if it stays so, the gateway's copy is damaged"
        )


def _said(record: VersionRecord) -> dict[str, Any]:
    """The version's words, without its parent: a number that means nothing to another adapter."""
    lineage = {name: value for name, value in record.get("lineage", {}).items() if name != "parent"}
    said = {"serving_profile": _stated(record["profile"]), "lineage": _stated(lineage)}
    return {name: value for name, value in said.items() if value}


def _stated(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that say something."""
    found = {
        name: _stated(value) if isinstance(value, dict) else value for name, value in fields.items()
    }
    return {name: value for name, value in found.items() if value not in (None, [], {})}
