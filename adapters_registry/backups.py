"""Everything of an installation in one archive, made while it runs, and back into an empty one.

    tables/<table>.jsonl            each row as a JSON object, in the order of its keys
    artifacts/<digest>/<file>       the files of every version that is not deleted
    manifest.json                   the list of the others

The rows are the same for SQLite and PostgreSQL. Tenants' keys are among them, as hashes.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from alembic.migration import MigrationContext
from sqlalchemy import (
    Connection,
    LargeBinary,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DataError, IntegrityError

from adapters_registry import archived_artifacts
from adapters_registry.archive import Kind, OutgoingArchive, Part, ReadArchive, refuse
from adapters_registry.calls import Calls
from adapters_registry.errors import AlreadyExists, StorageError
from adapters_registry.tables import JsonText, UtcTime, metadata, registry_meta, versions
from adapters_registry.types import VersionState

_ROWS_AT_ONCE = 500
_MOST_BYTES = 2**62

Row = dict[str, Any]
Report = Callable[[int], None]
"""Told how many bytes of artifacts were stored."""


def read_backup(file: BinaryIO) -> ReadArchive:
    """A backup, read to its end and found whole. Raises InvalidArchive, StorageError."""
    return ReadArchive(file, Kind.BACKUP, _most_bytes)


def unheard(_size_bytes: int) -> None:
    """A report that nobody reads."""


class Backups(Calls):
    """All that the registry holds, out and in."""

    def backup(self, work_dir: Path) -> OutgoingArchive:
        """The archive of everything as it is at this moment, whatever changes while it is read.

        work_dir: takes the tables, in files without a name, until the archive is closed.
        """
        files = ExitStack()
        try:
            with self._database.read() as connection:
                dumps = [
                    _dump(connection, table, files.enter_context(_nameless(work_dir)))
                    for table in metadata.sorted_tables
                ]
                schema = _schema(connection)
                contents = _contents(connection)
            parts = [part for part, _ in dumps]
            parts += archived_artifacts.parts(self.artifacts, contents)
            counts = {part.name: count for part, count in dumps} | {"artifacts": len(contents)}
        except BaseException:
            files.close()
            raise
        return OutgoingArchive(
            Kind.BACKUP, parts, counts, database_schema=schema, close=files.close
        )

    def restore(
        self, file: BinaryIO, work_dir: Path, report: Report = unheard
    ) -> Mapping[str, int]:
        """Fills this registry, which must be empty, from a backup; what it holds, by kind.

        All of the backup is checked first; then its files are stored, then all rows written at
        once. work_dir: takes one adapter's files at a time.
        Raises InvalidArchive, AlreadyExists (the registry is not empty).
        """
        with self._database.read() as connection:
            _check_empty(connection)
            schema = _schema(connection)
        archive = read_backup(file)
        _check_backup(archive, schema)
        wanted = _check_rows(archive)
        archived_artifacts.check_digests(archive, wanted)
        for digest in sorted(wanted):
            report(archived_artifacts.keep(archive, digest, self.artifacts, work_dir).size_bytes)
        try:
            with self._database.write() as connection:
                # On PostgreSQL this row is the writers' lock.
                connection.execute(update(registry_meta).values(revision=registry_meta.c.revision))
                self._database.announce(connection)
                _check_empty(connection)
                connection.execute(delete(registry_meta))
                for table in metadata.sorted_tables:
                    _fill(connection, table, archive)
        except (IntegrityError, DataError) as error:
            raise refuse("its rows contradict one another") from error
        return archive.manifest.counts


def _nameless(work_dir: Path) -> BinaryIO:
    try:
        return tempfile.TemporaryFile(dir=work_dir)
    except OSError as error:
        raise StorageError(f"a backup cannot be prepared: {error.strerror}") from error


def _file(table: Table) -> str:
    return f"tables/{table.name}.jsonl"


def _dump(connection: Connection, table: Table, out: BinaryIO) -> tuple[Part, int]:
    """The table as a member, and how many rows it has."""
    sha256, size_bytes, count = hashlib.sha256(), 0, 0
    query = select(table).order_by(*table.primary_key.columns)
    rows = connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})
    for row in rows:
        values = {name: _portable(value) for name, value in row._mapping.items()}
        line = json.dumps(values).encode() + b"\n"
        sha256.update(line)
        size_bytes, count = size_bytes + len(line), count + 1
        try:
            out.write(line)
        except OSError as error:
            raise StorageError(f"a backup cannot be prepared: {error.strerror}") from error
    out.flush()
    return Part(_file(table), size_bytes, sha256.hexdigest(), partial(_rewound, out)), count


def _rewound(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file


def _portable(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else value


def _contents(connection: Connection) -> dict[str, dict[str, str]]:
    """Each content of a version that is not deleted: digest to each file's SHA-256."""
    query = select(versions.c.digest, versions.c.files).where(
        versions.c.state != VersionState.DELETED
    )
    return {row.digest: row.files for row in connection.execute(query)}


def _schema(connection: Connection) -> str | None:
    """The migration that the tables are at."""
    return MigrationContext.configure(connection).get_current_revision()


def _check_empty(connection: Connection) -> None:
    """Raises AlreadyExists where anything was ever written."""
    used = connection.execute(select(registry_meta.c.revision)).scalar_one() != 0
    for table in metadata.sorted_tables:
        if table is not registry_meta:
            used = used or connection.execute(select(table).limit(1)).first() is not None
    if used:
        raise AlreadyExists(
            "this installation is not empty: restore into a new data dir, or a new database"
        )


def _most_bytes(name: str) -> int | None:
    tables = {_file(table) for table in metadata.sorted_tables}
    return _MOST_BYTES if name in tables else archived_artifacts.most_bytes(name, _MOST_BYTES)


def _check_backup(archive: ReadArchive, schema: str | None) -> None:
    manifest = archive.manifest
    if manifest.database_schema != schema:
        raise refuse(
            f"it was made by release {manifest.release[:40]!a}, whose tables differ from this"
            " one's: restore it with that release, then upgrade"
        )
    for table in metadata.sorted_tables:
        if _file(table) not in manifest.members:
            raise refuse(f"{_file(table)} is missing")


def _check_rows(archive: ReadArchive) -> set[str]:
    """The digests of the contents that must be there."""
    wanted = set()
    for table in metadata.sorted_tables:
        count = 0
        for row in _rows(archive, table):
            count += 1
            if table is versions and row["state"] != VersionState.DELETED:
                wanted.add(row["digest"])
        if archive.manifest.counts.get(_file(table)) != count:
            raise refuse(f"{_file(table)} has not as many rows as were counted")
    if archive.manifest.counts.get("artifacts") != len(wanted):
        raise refuse("it has not as many artifacts as were counted")
    return wanted


def _rows(archive: ReadArchive, table: Table) -> Iterator[Row]:
    """A table's rows as its columns take them."""
    for place, line in enumerate(archive.lines(_file(table)), 1):
        try:
            found = json.loads(line)
            if found.keys() != set(table.c.keys()):
                raise ValueError("other columns")
            yield {name: _stored(table, name, value) for name, value in found.items()}
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise refuse(f"{_file(table)}: line {place} is no row of that table") from None


def _stored(table: Table, name: str, value: Any) -> Any:
    if value is None:
        return None
    kind = table.c[name].type
    if isinstance(kind, JsonText):
        return value
    if isinstance(kind, UtcTime):
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError("a time without a zone")
        return at
    if isinstance(kind, LargeBinary):
        return bytes.fromhex(value)
    if type(value) is not kind.python_type:
        raise ValueError("another type")
    return value


def _fill(connection: Connection, table: Table, archive: ReadArchive) -> None:
    rows = _rows(archive, table)
    while batch := list(islice(rows, _ROWS_AT_ONCE)):
        connection.execute(insert(table), batch)
    numbered = table.autoincrement_column
    if connection.dialect.name == "postgresql" and numbered is not None:
        # SQLite goes on above the highest number by itself; a sequence must be told.
        highest = select(func.max(numbered)).scalar_subquery()
        sequence = func.pg_get_serial_sequence(table.name, numbered.name)
        connection.execute(
            select(func.setval(sequence, func.coalesce(highest, 1), highest.is_not(None)))
        )
