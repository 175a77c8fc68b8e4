"""PostgreSQL's side of the database: connections that never hang, and word of every change.

Imported only where a PostgreSQL is named, since its driver is an optional part.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

T = TypeVar("T")

_CHANNEL = "loraplex_registry"
_SILENCE_S = 5.0
_POOL_WAIT_S = 5.0
# Shorter than the silence: whoever waits for a lock is told so by the server.
_SESSION = "SET lock_timeout = '4s'; SET idle_in_transaction_session_timeout = '60s'"
# Each may be given in the URL instead.
_CONNECT = {
    "connect_timeout": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "loraplex",
}


class _Bounded(psycopg.Connection[Any]):
    """Ends itself, as a broken connection does, where the server says nothing for too long.

    A server that stands still, or is behind a dead network, keeps a connection open for minutes;
    its own time limits do not help then.
    """

    silence_s = _SILENCE_S

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """The driver's one place to wait for the server."""
        return super().wait(self._heard(gen), *args, **kwargs)

    def _heard(self, gen: PQGen[T]) -> PQGen[T]:
        end_s = time.monotonic() + self.silence_s
        try:
            state = next(gen)
            while True:
                ready = yield state  # 0 where a tenth of a second passed and nothing came
                if ready:
                    end_s = time.monotonic() + self.silence_s
                elif time.monotonic() > end_s:
                    self.close()
                    raise psycopg.OperationalError("the server is silent")
                state = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result


def postgres_engine(url: URL) -> Engine:
    """An engine whose every call ends within seconds, whatever becomes of the server."""
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_timeout=_POOL_WAIT_S,
        connect_args={name: value for name, value in _CONNECT.items() if name not in url.query},
    )

    @event.listens_for(engine, "do_connect")
    def connect(
        _dialect: object, _entry: object, args: list[Any], kwargs: dict[str, Any]
    ) -> DBAPIConnection:
        made: Any = _Bounded.connect(*args, **kwargs)
        return made  # type: ignore[no-any-return]

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(_SESSION)
        cursor.close()
        connection.commit()

    return engine


@contextmanager
def patience(connection: Connection, limit_s: float) -> Iterator[None]:
    """Lets the statements of a block, and its waits for locks, take longer."""
    driver: Any = connection.connection.driver_connection
    connection.execute(text(f"SET LOCAL lock_timeout = '{limit_s:.0f}s'"))
    driver.silence_s = limit_s
    try:
        yield
    finally:
        driver.silence_s = _SILENCE_S


def announce(connection: Connection) -> None:
    """Has the server tell all that listen, when and if the transaction commits."""
    connection.execute(text(f"NOTIFY {_CHANNEL}"))


async def listen(url: URL, engine: Engine) -> AsyncGenerator[None]:
    """Yields once it listens, and then at every change. Raises psycopg.Error, TimeoutError."""
    args, kwargs = engine.dialect.create_connect_args(url)
    async with asyncio.timeout(2 * _SILENCE_S):
        connection = await psycopg.AsyncConnection.connect(
            *args, **{**_CONNECT, **kwargs}, autocommit=True
        )
    async with connection:
        async with asyncio.timeout(_SILENCE_S):
            await connection.execute(f"LISTEN {_CHANNEL}")
        yield
        async for _ in connection.notifies():
            yield
