"""What PostgreSQL alone can do to the registry: stand still, go away, keep others waiting."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, make_url, text

from adapters_registry.database import Database
from adapters_registry.errors import DatabaseUnavailable, OutcomeUnknown, RegistryError
from adapters_registry.registry import Registry
from gateway.snapshots import Snapshots
from tests.postgres_server import PostgresServer

ADMIN = "admin"
DEADLINE_S = 60


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database() as made:
        yield made


@pytest.fixture
def registry(url: str, tmp_path: Path) -> Iterator[Registry]:
    opened = Registry.open(url, tmp_path / "artifacts")
    opened.create_tenant("acme", actor=ADMIN)
    yield opened
    opened.close()


@contextmanager
def standing_still(server: PostgresServer) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


def end(server: PostgresServer, connection: Connection) -> None:
    """Ends a connection from the server's side, and waits until it is gone."""
    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    server.execute(f"SELECT pg_terminate_backend({pid}, {DEADLINE_S * 1000})")


def test_a_server_that_stands_still_is_given_up_and_then_told_at_once(
    postgres: PostgresServer, registry: Registry
) -> None:
    with standing_still(postgres):
        began_s = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="try again"):
            registry.create_tenant("globex", actor=ADMIN)
        assert time.monotonic() - began_s < DEADLINE_S

        # One at a time finds out whether it is back; nobody else waits for that.
        together = threading.Barrier(8)

        def ask() -> float:
            together.wait(DEADLINE_S)
            asked_s = time.monotonic()
            with pytest.raises(DatabaseUnavailable):
                registry.revision()
            return time.monotonic() - asked_s

        with ThreadPoolExecutor(8) as pool:
            waits_s = sorted(pool.map(lambda _: ask(), range(8)))
    assert waits_s[6] < waits_s[7] / 2
    registry.create_tenant("globex", actor=ADMIN)
    assert set(registry.snapshot().tenants) == {"acme", "globex"}


def test_a_restart_is_noticed_before_it_is_in_the_way(
    postgres: PostgresServer, registry: Registry
) -> None:
    before = registry.snapshot()
    postgres.stop()
    try:
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            registry.snapshot()
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            registry.create_tenant("globex", actor=ADMIN)
    finally:
        postgres.start()
    assert registry.snapshot() == before
    postgres.stop()
    postgres.start()
    registry.create_tenant("globex", actor=ADMIN)  # on a connection that the restart ended


def test_whoever_waits_too_long_for_another_writer_is_told_to_try_again(
    url: str, registry: Registry
) -> None:
    other = Database(url)
    try:
        with other.write() as connection:
            connection.execute(text("SELECT * FROM registry_meta FOR UPDATE"))
            with pytest.raises(DatabaseUnavailable, match="try again"):
                registry.create_tenant("globex", actor=ADMIN)
            # The server is there: readers go on, and are not held back.
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: registry.snapshot(), range(20)))
        registry.create_tenant("globex", actor=ADMIN)
    finally:
        other.close()


def test_a_connection_lost_in_the_middle_changes_nothing(
    postgres: PostgresServer, registry: Registry
) -> None:
    def change() -> None:
        with registry._database.write() as connection:
            connection.execute(text("UPDATE tenants SET name = 'lost'"))
            end(postgres, connection)
            connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable) as caught:
        change()
    assert not isinstance(caught.value, OutcomeUnknown)
    assert set(registry.snapshot().tenants) == {"acme"}


def test_a_connection_lost_at_the_commit_leaves_the_outcome_open(
    postgres: PostgresServer, registry: Registry
) -> None:
    def change() -> None:
        with registry._database.write() as connection:
            connection.execute(text("UPDATE tenants SET name = 'lost'"))
            end(postgres, connection)

    with pytest.raises(OutcomeUnknown):
        change()
    assert set(registry.snapshot().tenants) == {"acme"}


def test_a_server_that_only_reads_is_away(registry: Registry) -> None:
    """As an old primary does after another took over."""

    def change() -> None:
        with registry._database.write() as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            connection.execute(text("UPDATE tenants SET name = 'lost'"))

    with pytest.raises(DatabaseUnavailable):
        change()
    assert set(registry.snapshot().tenants) == {"acme"}


def test_writers_from_many_threads_and_registries_are_one_after_the_other(
    url: str, registry: Registry, tmp_path: Path
) -> None:
    other = Registry.open(url, tmp_path / "artifacts")
    before = registry.revision()
    names = [f"tenant-{number}" for number in range(24)]

    def make(name: str) -> str:
        made = 0
        for one in (registry, other):
            try:
                one.create_tenant(name, actor=ADMIN)
                made += 1
            except RegistryError:
                continue
        return name * made

    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(make, names)) == names
        assert registry.revision() == before + len(names)
        assert registry.snapshot() == other.snapshot()
        assert [entry.id for entry in registry.audit(limit=24)] == sorted(
            (entry.id for entry in other.audit(limit=24)), reverse=True
        )
    finally:
        other.close()


def test_no_server_at_the_start_is_told_with_the_drivers_words(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, and not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg://loraplex:the-secret@127.0.0.1:{taken.getsockname()[1]}/x"
        with pytest.raises(DatabaseUnavailable, match=r"cannot be opened.*refused") as caught:
            Registry.open(url, tmp_path / "artifacts")
    assert caught.value.field == "database_url"
    assert "the-secret" not in caught.value.message


def test_a_wrong_password_is_told_and_not_shown(postgres: PostgresServer, tmp_path: Path) -> None:
    wrong = make_url(postgres.url()).set(password="not-the-password")
    with pytest.raises(DatabaseUnavailable, match="password authentication failed") as caught:
        Registry.open(wrong.render_as_string(hide_password=False), tmp_path / "artifacts")
    assert "not-the-password" not in caught.value.message


def test_what_the_url_says_of_the_connection_wins(
    postgres: PostgresServer, url: str, tmp_path: Path
) -> None:
    registry = Registry.open(f"{url}?application_name=ours", tmp_path / "artifacts")
    try:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ours'"
        assert postgres.execute(query)[0][0] == 1
    finally:
        registry.close()


def test_a_migration_waits_for_another_and_the_next_call_is_impatient_again(
    url: str, tmp_path: Path
) -> None:
    """Many gateways may start at once on a new database."""

    def start(number: int) -> int:
        registry = Registry.open(url, tmp_path / str(number))
        try:
            with registry._database.read() as connection:
                limit = connection.execute(text("SHOW lock_timeout")).scalar_one()
            return int(re.fullmatch(r"(\d+)s", limit).group(1))  # type: ignore[union-attr]
        finally:
            registry.close()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, range(4))) == [4] * 4


async def test_who_follows_listens_and_at_the_end_does_not(
    postgres: PostgresServer, registry: Registry
) -> None:
    def listeners() -> int:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"
        return int(postgres.execute(query)[0][0])

    async def until(count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while await asyncio.to_thread(listeners) != count:  # noqa: ASYNC110 - the server knows
                await asyncio.sleep(0.02)

    before = listeners()
    following = asyncio.create_task(Snapshots(registry, poll_s=3600).follow())
    try:
        await until(before + 1)
    finally:
        following.cancel()
        await asyncio.wait([following])
    await until(before)
