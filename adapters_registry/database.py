"""The database behind the registry: connections, transactions, migrations, errors in our words."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from adapters_registry.errors import (
    DatabaseUnavailable,
    OutcomeUnknown,
    RegistryError,
    StorageError,
)
from adapters_registry.outage import Outage, is_lost

_BUSY_TIMEOUT_S = 15
_MIGRATION_S = 300
_NEWS_EVERY_S = 0.05
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
_POSTGRES_STANDBY = "25006"


class Database:
    """One database. Every read sees one moment of it, every write is one serial transaction."""

    def __init__(self, url: str, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> None:
        """busy_timeout_s: how long SQLite waits for another writer.

        Raises StorageError where the URL cannot be used.
        """
        self._url = _parse(url)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        self._engine = (
            _sqlite_engine(self._url, busy_timeout_s) if self._sqlite else _postgres(self._url)
        )
        self._outage = None if self._sqlite else Outage()

    def close(self) -> None:
        """Closes every pooled connection."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, all of it from one moment."""
        with self._asking(), self._engine.connect() as connection:
            if not self._sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, or not at all.

        On SQLite it holds the write lock from its start. On PostgreSQL the caller's first
        statement must lock what it decides on. Raises OutcomeUnknown where the database went away
        during the commit.
        """
        with (
            self._asking(),
            self._engine.connect().execution_options(**{_WRITE: True}) as connection,
            connection.begin() as transaction,
        ):
            yield connection
            try:
                transaction.commit()
            except DBAPIError as error:
                if self._sqlite or not is_lost(error):
                    raise
                raise OutcomeUnknown("the database went away during the commit") from error

    def announce(self, connection: Connection) -> None:
        """Has `news` tell every process of this change, from its commit on."""
        if not self._sqlite:
            from adapters_registry.postgres import announce

            announce(connection)

    def news(self) -> AsyncGenerator[None]:
        """Yields at once and then soon after each change, by whichever process.

        Several changes may be told as one. Raises when the database cannot tell any more.
        """
        if self._sqlite:
            return _sqlite_news(self._url.database or "")
        from adapters_registry.postgres import listen

        return listen(self._url, self._engine)

    def migrate(self) -> None:
        """Brings the schema to this release's, in one transaction, however many processes try.

        The first thing done with a database, so its DatabaseUnavailable carries the driver's words.
        """
        try:
            self._migrate()
        except DatabaseUnavailable as error:
            if self._sqlite or not isinstance(error.__cause__, DBAPIError):
                raise
            words = str(error.__cause__.orig).partition("\n")[0]
            raise DatabaseUnavailable(
                f"the database cannot be opened: {words}", field="database_url"
            ) from error

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", "adapters_registry:migrations")
        with self.write() as connection, self._alone(connection):
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise StorageError(
                    "the database was written by a newer release of Loraplex: upgrade this one"
                ) from error

    @contextmanager
    def _alone(self, connection: Connection) -> Iterator[None]:
        """Keeps other processes from migrating, and takes the time that a large table needs."""
        if self._sqlite:
            yield
            return
        from adapters_registry.postgres import patience

        with patience(connection, _MIGRATION_S):
            lock = text("SELECT pg_advisory_xact_lock(:lock)")
            connection.execute(lock, {"lock": _MIGRATION_LOCK})
            yield

    @contextmanager
    def _asking(self) -> Iterator[None]:
        with _in_our_words(), self._outage.asking() if self._outage else nullcontext():
            yield


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


async def _sqlite_news(file: str) -> AsyncGenerator[None]:
    """SQLite's own count of other connections' commits: a look into shared memory, not a query."""
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
        seen = None
        while True:
            (now,) = connection.execute("PRAGMA data_version").fetchone()
            if now != seen:
                yield
            seen = now
            await asyncio.sleep(_NEWS_EVERY_S)


def _postgres(url: URL) -> Engine:
    try:
        from adapters_registry.postgres import postgres_engine
    except ImportError:
        raise StorageError(
            "PostgreSQL needs a driver: pip install 'loraplex[postgres]'", field="database_url"
        ) from None
    return postgres_engine(url)


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
    elif (state := getattr(error.orig, "sqlstate", None)) == _POSTGRES_DISK_FULL:
        return StorageError("the database's disk is full: free some space and try again")
    else:
        kind = type(error).__name__
        away = error.connection_invalidated or kind in ("OperationalError", "InterfaceError")
        away = away or state == _POSTGRES_STANDBY
    return DatabaseUnavailable("the database does not answer: try again") if away else None
