"""The database behind the registry: connections, transactions, migrations, errors in our words."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from adapters_registry.errors import DatabaseUnavailable, RegistryError, StorageError

_BUSY_TIMEOUT_S = 15
_CONNECT_TIMEOUT_S = 5
_WRITE = "registry_write"
# Any number that no other program takes: it keeps two gateways from migrating at once.
_MIGRATION_LOCK = 0x6C6F7261

_SQLITE_STORAGE = (
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_READONLY",
    "SQLITE_CORRUPT",
    "SQLITE_NOTADB",
)
_SQLITE_AWAY = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN")
_POSTGRES_DISK_FULL = "53100"


class Database:
    """One database. Every read sees one moment of it, every write is one serial transaction."""

    def __init__(self, url: str, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> None:
        """busy_timeout_s: how long SQLite waits for another writer.

        Raises StorageError where the URL cannot be used.
        """
        parsed = _parse(url)
        self._sqlite = parsed.get_backend_name() == "sqlite"
        self._engine = (
            _sqlite_engine(parsed, busy_timeout_s) if self._sqlite else _postgres_engine(parsed)
        )

    def close(self) -> None:
        """Closes every pooled connection."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, all of it from one moment."""
        with _in_our_words(), self._engine.connect() as connection:
            if not self._sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, or not at all.

        On SQLite it holds the write lock from its start. On PostgreSQL the caller's first
        statement must lock what it decides on.
        """
        with (
            _in_our_words(),
            self._engine.connect().execution_options(**{_WRITE: True}) as connection,
            connection.begin(),
        ):
            yield connection

    def migrate(self) -> None:
        """Brings the schema to this release's, in one transaction, however many processes try."""
        config = Config()
        config.set_main_option("script_location", "adapters_registry:migrations")
        with self.write() as connection:
            if not self._sqlite:
                lock = text("SELECT pg_advisory_xact_lock(:lock)")
                connection.execute(lock, {"lock": _MIGRATION_LOCK})
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise StorageError(
                    "the database was written by a newer release of Loraplex: upgrade this one"
                ) from error


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StorageError(
            "the database URL cannot be read: use sqlite:///FILE or postgresql+psycopg://...",
            field="database_url",
        ) from None
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise StorageError(
            f"{parsed.drivername} is not supported: use sqlite:///FILE or postgresql+psycopg://...",
            field="database_url",
        )
    if parsed.drivername == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StorageError(
            "a database in memory is lost at the end: use sqlite:///FILE", field="database_url"
        )
    return parsed


def _sqlite_engine(url: URL, busy_timeout_s: float) -> Engine:
    _make_private_file(Path(url.database or ""))
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": busy_timeout_s})

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # The driver's own BEGIN comes too late for us: it is sent in `begin` below.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that turns into a write fails at once when another one writes.
        write = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgres_engine(url: URL) -> Engine:
    try:
        return create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            connect_args={"connect_timeout": _CONNECT_TIMEOUT_S},
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        raise StorageError(
            "PostgreSQL needs a driver: pip install 'loraplex[postgres]'", field="database_url"
        ) from None


def _make_private_file(file: Path) -> None:
    """SQLite gives its journal files the mode of the database file, so that is set first."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StorageError(f"the database file cannot be opened: {error.strerror}") from error


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable("the database is too busy: try again") from error
    except DBAPIError as error:
        explained = _explain(error)
        if explained is None:
            raise
        raise explained from error


def _explain(error: DBAPIError) -> RegistryError | None:
    """What went wrong outside of this program, or None for a mistake of ours."""
    name = getattr(error.orig, "sqlite_errorname", None)
    if name is not None:
        if name.startswith(_SQLITE_STORAGE):
            return StorageError(f"the database cannot be written or read ({name}): {error.orig}")
        away = name.startswith(_SQLITE_AWAY)
    elif getattr(error.orig, "sqlstate", None) == _POSTGRES_DISK_FULL:
        return StorageError("the database's disk is full: free some space and try again")
    else:
        away = type(error).__name__ in ("OperationalError", "InterfaceError")
    return DatabaseUnavailable("the database does not answer: try again") if away else None
