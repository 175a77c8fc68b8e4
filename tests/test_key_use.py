"""When keys were last used: kept in memory, written in batches, lost by no fault."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters_registry.errors import DatabaseUnavailable
from adapters_registry.registry import Registry
from adapters_registry.types import Key
from gateway.key_use import KeyUse
from tests.fake_engine import FakeEngine
from tests.running_gateway import BASE, TinyModel, running_gateway
from tests.snapshots_for_tests import AT

KEY = Key("a" * 16, "acme", "k", frozenset(), bytes(32), AT, last_used_at=AT)


class Book:
    """Where uses are written down. away: it cannot be reached."""

    def __init__(self) -> None:
        self.away = False
        self.written: list[dict[str, datetime]] = []
        self.wrote = asyncio.Event()
        self.failed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def write(self, used: Mapping[str, datetime]) -> None:
        if self.away:
            self._loop.call_soon_threadsafe(self.failed.set)
            raise DatabaseUnavailable("gone")
        self.written.append(dict(used))
        self._loop.call_soon_threadsafe(self.wrote.set)


async def test_a_use_is_written_once_with_its_time() -> None:
    book = Book()
    use = KeyUse(book.write)
    before = datetime.now(UTC)
    use.noted[KEY.id] = time.perf_counter()
    await use.write()
    await use.write()
    (used,) = book.written
    assert before - timedelta(seconds=1) < used[KEY.id] < datetime.now(UTC) + timedelta(seconds=1)
    assert use.noted == {}


async def test_what_is_not_written_yet_is_seen() -> None:
    use = KeyUse(Book().write)
    assert use.seen(KEY) == KEY
    use.noted[KEY.id] = time.perf_counter()
    seen = use.seen(KEY).last_used_at
    assert seen is not None
    assert abs(seen - datetime.now(UTC)) < timedelta(minutes=1)
    await use.write()
    assert use.seen(KEY) == KEY


async def test_a_use_during_the_write_waits_for_the_next() -> None:
    book = Book()

    def write(used: Mapping[str, datetime]) -> None:
        use.noted[KEY.id] = 2.0
        book.write(used)

    use = KeyUse(write)
    use.noted |= {KEY.id: 1.0, "b" * 16: 1.0}
    await use.write()
    assert use.noted == {KEY.id: 2.0}


async def test_while_the_database_is_away_nothing_is_lost() -> None:
    book = Book()
    use = KeyUse(book.write)
    use.noted[KEY.id] = 1.0
    book.away = True
    with pytest.raises(DatabaseUnavailable):
        await use.write()
    assert use.noted == {KEY.id: 1.0}
    book.away = False
    await use.write()
    assert [set(used) for used in book.written] == [{KEY.id}]


async def test_it_writes_again_and_again_and_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    book = Book()
    use = KeyUse(book.write)
    use.noted[KEY.id] = 1.0
    task = asyncio.create_task(use.keep_writing(every_s=0.001))
    async with asyncio.timeout(30):
        await book.wrote.wait()
    book.away = True
    use.noted[KEY.id] = 2.0
    async with asyncio.timeout(30):
        await book.failed.wait()
    book.away = False
    book.wrote.clear()
    async with asyncio.timeout(30):
        await book.wrote.wait()
    assert any("not written down yet: gone" in message for message in caplog.messages)
    task.cancel()
    await asyncio.wait([task])
    idle = KeyUse(book.write)
    task = asyncio.create_task(idle.keep_writing(every_s=3600))
    await asyncio.sleep(0)
    idle.noted["b" * 16] = 3.0
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert set(book.written[-1]) == {"b" * 16}


def test_a_gateway_that_ends_has_written_what_it_saw(tmp_path: Path, tiny_model: TinyModel) -> None:
    engine = FakeEngine.start("--served-model-name", BASE)
    try:
        with running_gateway(engine, tmp_path, tiny_model) as gateway:
            gateway.admin("POST", "/tenants/acme/keys", json={"name": "idle"})
            asked_at = datetime.now(UTC)
            body = {"model": BASE, "messages": [{"role": "user", "content": "Hi"}]}
            assert gateway.post("/v1/chat/completions", body).status_code == 200
            assert gateway.stop() == 0
    finally:
        engine.stop()
    data_dir = tmp_path / "data"
    registry = Registry.open(f"sqlite:///{data_dir}/registry.db", data_dir / "artifacts")
    used, idle = registry.keys("acme")
    registry.close()
    assert used.last_used_at is not None
    assert abs(used.last_used_at - asked_at) < timedelta(seconds=60)
    assert (idle.name, idle.last_used_at) == ("idle", None)
