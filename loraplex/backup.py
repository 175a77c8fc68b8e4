"""`loraplex backup` and `loraplex restore`: everything into one file, and from it into a new place.

A backup is made by a running gateway. It is read back into an installation that is still empty and
has no gateway running.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from loraplex.connection import AsJson, Key, Url, connect
from loraplex.errors import CommandError, UsageError
from loraplex.output import note, print_json, print_line, size, transfer_progress

_SHOWN = ("tenants", "adapters", "versions", "artifacts")


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The tar to make.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Back up everything while the gateway runs: tenants, keys as hashes, history, adapters.

    FILE appears when all is there and checked. Only its owner can read it; keep it so. The admin
    key is not in it.
    """
    from adapters_registry.backups import read_backup

    with _made_aside(file, force) as made:
        with connect(url, key) as gateway, transfer_progress("backing up", None) as bar:

            def take(block: bytes) -> None:
                made.write(block)
                bar(len(block))

            gateway.backup(take=take, expect=bar.expect)
        made.flush()
        with _in_words(file):
            manifest = read_backup(made).manifest
        size_bytes = made.seek(0, os.SEEK_END)
    done = {"file": str(file), "size_bytes": size_bytes, **_counts(manifest.counts)}
    if as_json:
        print_json(done | {"made_at": manifest.made_at.isoformat()})
        return
    print_line(f"Backed up {_listed(done)} into {file} ({size(size_bytes)}).")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `loraplex backup` made.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Where to; else LORAPLEX_DATA_DIR, else the usual one.")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL [default: SQLite in the data dir].")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an installation that is empty and has no gateway running.

    All of FILE is checked before anything of it is kept.
    """
    from adapters_registry.registry import Registry
    from adapters_registry.staging import Staging
    from gateway.config import SettingsError, load_settings

    try:
        settings = load_settings({"data_dir": data_dir, "database_url": database_url}, config)
    except SettingsError as error:
        raise UsageError(str(error)) from None
    with _in_words(file), file.open("rb") as archive:
        registry = Registry.open(
            settings.sqlalchemy_url,
            settings.artifacts_dir,
            artifacts_url=settings.artifacts_url,
            s3_endpoint=settings.s3_endpoint,
        )
        try:
            with (
                Staging(settings.staging_dir).folder() as work_dir,
                transfer_progress("restoring", os.fstat(archive.fileno()).st_size) as moved,
            ):
                counts = registry.restore(archive, work_dir, moved)
        finally:
            registry.close()
    done = _counts(counts)
    if as_json:
        print_json(done)
        return
    print_line(f"Restored {_listed(done)}.")
    note("The admin key is not in a backup; `loraplex serve` makes one where there is none.")


def _counts(counts: Any) -> dict[str, Any]:
    """What of a manifest's counts says something to a person; a table is counted by its file."""
    return {name: counts.get(f"tables/{name}.jsonl", counts.get(name, 0)) for name in _SHOWN}


def _listed(counts: dict[str, Any]) -> str:
    *most, last = [f"{counts[name]} {name[: -1 if counts[name] == 1 else None]}" for name in _SHOWN]
    return f"{', '.join(most)} and {last}"


@contextmanager
def _in_words(file: Path) -> Iterator[None]:
    """The registry's and the system's refusals as the command's."""
    from adapters_registry.errors import RegistryError

    try:
        yield
    except RegistryError as error:
        raise CommandError(f"{file}: {error.message}") from error
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error


@contextmanager
def _made_aside(file: Path, force: bool) -> Iterator[BinaryIO]:
    """A file beside `file`, its owner's alone, which becomes it for good if all went well.

    Raises UsageError where something would be overwritten, CommandError.
    """
    _check_free(file, force)
    with _in_words(file):
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as made, _in_words(file):
            yield made
            made.flush()
            os.fsync(made.fileno())
        _check_free(file, force)
        with _in_words(file):
            aside.replace(file)
            _sync_folder(file.parent)
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()


def _check_free(file: Path, force: bool) -> None:
    if file.is_dir():
        raise UsageError(f"FILE: {file} is a folder; name a file in it")
    if file.exists() and not force:
        raise UsageError(f"FILE: {file} is there already; name a new one, or replace it by --force")
    if not file.parent.is_dir():
        raise UsageError(f"FILE: the folder {file.parent} does not exist")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
