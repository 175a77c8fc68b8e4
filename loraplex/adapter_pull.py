"""A version's files from a gateway into a folder on disk: whole and checked, or not at all."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loraplex.adapter_folder import CONFIG, METADATA, WEIGHTS
from loraplex.admin_client import AdminClient, VersionBody
from loraplex.errors import CommandError, UsageError


def pull_folder(
    gateway: AdminClient,
    tenant: str,
    adapter: str,
    version: VersionBody,
    folder: Path,
    *,
    received: Callable[[int], None] = lambda size_bytes: None,
) -> None:
    """Makes `folder`, its owner's alone, with the version's files and, if any, serving profile.

    It appears when all is there and has the version's digest. `received` is told each step.
    Raises UsageError where something would be overwritten, or CommandError; then no file is left.
    """
    number = version["version"]

    def download(made: Path, name: str) -> str:
        """Writes and hashes in one pass; the SHA-256."""
        sha256 = hashlib.sha256()
        with (made / name).open("xb") as file:

            def take(block: bytes) -> None:
                file.write(block)
                sha256.update(block)
                received(len(block))

            gateway.download(tenant, adapter, number, name, take=take)
        return sha256.hexdigest()

    with _made_aside(folder) as made:
        hashes = {name: download(made, name) for name in (CONFIG, WEIGHTS)}
        _check_digest(hashes, f"{tenant}/{adapter}@{number}", version["digest"])
        if profile := _stated(version["profile"]):
            text = json.dumps({"serving_profile": profile}, indent=2)
            (made / METADATA).write_text(f"{text}\n", encoding="utf-8")


@contextmanager
def _made_aside(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, which becomes it if the block ends well."""
    try:
        _check_free(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield made
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise CommandError(f"cannot write {folder}: {error.strerror}") from None


def _check_free(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"--out: {folder} is there and is no folder; name a new one")
    if not folder.exists():
        return
    if folder.samefile(Path.cwd()):
        # A rename would leave the person's shell in a folder that is gone.
        raise UsageError(f"--out: {folder} is the folder you are in; name a new one")
    if any(folder.iterdir()):
        raise UsageError(f"--out: {folder} is not empty; name a new folder")


def _check_digest(hashes: dict[str, str], label: str, digest: str) -> None:
    from adapters_registry.artifacts import content_digest

    found = content_digest(hashes)
    if found != digest:
        raise CommandError(
            f"what came is not {label}: its digest is {found[:12]} instead of {digest[:12]}, so "
            "nothing was kept; pull again, and if it stays so, the gateway's copy is damaged"
        )


def _stated(profile: dict[str, Any]) -> dict[str, Any]:
    """The fields of a serving profile that say something."""
    fields = {
        name: _stated(value) if isinstance(value, dict) else value
        for name, value in profile.items()
    }
    return {name: value for name, value in fields.items() if value not in (None, [], {})}
