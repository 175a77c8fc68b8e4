"""The gateway's snapshot follows the registry, on both databases, whoever changes it."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from adapters_registry.errors import DatabaseUnavailable, RegistryError
from adapters_registry.registry import Registry
from adapters_registry.types import (
    Evaluation,
    Scope,
    ServingProfile,
    Snapshot,
    TenantPolicy,
    Verdict,
)
from gateway.snapshots import Snapshots
from tests.adapters_for_tests import good_adapter, tiny_base

ADMIN = "admin"
BASE = tiny_base()
NEVER_S = 3600.0


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    """The gateway's own."""
    opened = Registry.open(database_url, tmp_path / "artifacts")
    yield opened
    opened.close()


@pytest.fixture
def other(database_url: str, registry: Registry, tmp_path: Path) -> Iterator[Registry]:
    """Another process's, on the same database."""
    del registry  # the first one makes the schema
    opened = Registry.open(database_url, tmp_path / "artifacts")
    yield opened
    opened.close()


@asynccontextmanager
async def running(*coroutines: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - the state is another thread's
            await asyncio.sleep(0.005)


async def test_a_change_made_elsewhere_is_followed_without_a_poll(
    registry: Registry, other: Registry
) -> None:
    snapshots = Snapshots(registry, NEVER_S)
    heard: list[int] = []
    snapshots.listen(lambda: heard.append(snapshots.current.revision))
    async with running(snapshots.follow()):
        for name in ("acme", "globex", "initech"):
            await asyncio.to_thread(other.create_tenant, name, actor=ADMIN)
            await until(lambda: name in snapshots.current.tenants)  # noqa: B023 - awaited here
    assert heard == sorted(set(heard))
    assert heard[-1] == registry.revision()


async def test_what_happened_before_it_listens_is_not_missed(
    registry: Registry, other: Registry
) -> None:
    snapshots = Snapshots(registry, NEVER_S)
    other.create_tenant("acme", actor=ADMIN)
    async with running(snapshots.follow()):
        await until(lambda: "acme" in snapshots.current.tenants)


async def test_without_news_the_poll_finds_it(
    registry: Registry, other: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    class Deaf(Registry):
        async def news(self) -> AsyncGenerator[None]:
            raise DatabaseUnavailable("no news")
            yield

    deaf = Deaf(registry._database, registry.artifacts)
    snapshots = Snapshots(deaf, 0.01)
    async with running(snapshots.follow(), snapshots.poll()):
        await until(lambda: "no news from the registry: no news" in caplog.text)
        other.create_tenant("acme", actor=ADMIN)
        await until(lambda: "acme" in snapshots.current.tenants)


async def test_refreshes_at_the_same_time_read_once(registry: Registry, other: Registry) -> None:
    snapshots = Snapshots(registry, NEVER_S)
    heard: list[None] = []
    snapshots.listen(lambda: heard.append(None))
    other.create_tenant("acme", actor=ADMIN)
    await asyncio.gather(*(snapshots.refresh() for _ in range(10)))
    assert "acme" in snapshots.current.tenants
    assert len(heard) == 1


def test_nothing_new_is_the_same_snapshot(registry: Registry) -> None:
    registry.create_tenant("acme", actor=ADMIN)
    last = registry.snapshot()
    assert registry.snapshot(last) is last


def test_only_the_tenant_that_changed_is_read_again(registry: Registry) -> None:
    for name in ("acme", "globex"):
        registry.create_tenant(name, actor=ADMIN)
    last = registry.snapshot()
    registry.set_policy("acme", TenantPolicy(allow_base=False), actor=ADMIN)
    new = registry.snapshot(last)
    assert new.tenants["globex"] is last.tenants["globex"]
    assert not new.tenants["acme"].policy.allow_base


def test_a_change_that_names_no_tenant_has_all_read_again(registry: Registry) -> None:
    registry.create_tenant("acme", actor=ADMIN)
    last = registry.snapshot()
    with registry._database.write() as connection:
        connection.execute(text("UPDATE registry_meta SET revision = revision + 1"))
        connection.execute(text("UPDATE tenants SET name = 'globex'"))
    assert list(registry.snapshot(last).tenants) == ["globex"]


def test_a_registry_that_went_back_in_time_is_read_again(registry: Registry) -> None:
    registry.create_tenant("acme", actor=ADMIN)
    last = registry.snapshot()
    with registry._database.write() as connection:
        connection.execute(text("UPDATE registry_meta SET revision = revision - 1"))
        connection.execute(text("UPDATE tenants SET name = 'globex', revision = 0"))
    assert list(registry.snapshot(last).tenants) == ["globex"]


def test_an_empty_registry_that_a_backup_filled_is_read_again(registry: Registry) -> None:
    with registry._database.write() as connection:
        connection.execute(text("UPDATE registry_meta SET revision = 9"))
    last = registry.snapshot()
    registry.create_tenant("acme", actor=ADMIN)
    with registry._database.write() as connection:
        connection.execute(text("UPDATE registry_meta SET revision = 9"))
        connection.execute(text("UPDATE tenants SET revision = 1"))
    assert list(registry.snapshot(last).tenants) == ["acme"]


@pytest.mark.parametrize("seed", range(2))
def test_what_is_read_again_adds_up_to_the_whole(
    registry: Registry, tmp_path: Path, seed: int
) -> None:
    """Random changes; from any earlier snapshot the new one is the same as one read afresh."""
    chance = random.Random(seed)
    change = _Changes(registry, good_adapter(tmp_path / "in", BASE), chance)
    seen: list[Snapshot] = [registry.snapshot()]
    for _ in range(40):
        change.one()
        whole = registry.snapshot()
        for last in (seen[-1], chance.choice(seen)):
            assert registry.snapshot(last) == whole
        seen.append(whole)
    assert len(change.done) >= 8


class _Changes:
    """Changes of every kind, of a few tenants."""

    def __init__(self, registry: Registry, folder: Path, chance: random.Random) -> None:
        self._registry = registry
        self._folder = folder
        self._chance = chance
        self.done: set[str] = set()

    def one(self) -> None:
        """One that the registry does not refuse."""
        while True:
            name = self._chance.choice(
                ["create", "delete", "restore", "policy", "key", "rotate", "revoke"]
                + ["push", "evaluate", "promote", "rollback", "drop"] * 2
            )
            try:
                getattr(self, f"_{name}")(self._chance.choice(["acme", "globex", "initech"]))
            except RegistryError:
                continue
            self.done.add(name)
            return

    def _create(self, tenant: str) -> None:
        self._registry.create_tenant(tenant, actor=ADMIN)

    def _delete(self, tenant: str) -> None:
        self._registry.delete_tenant(tenant, actor=ADMIN)

    def _restore(self, tenant: str) -> None:
        self._registry.restore_tenant(tenant, actor=ADMIN)

    def _policy(self, tenant: str) -> None:
        policy = TenantPolicy(allow_base=self._chance.random() < 0.5)
        self._registry.set_policy(tenant, policy, actor=ADMIN)

    def _key(self, tenant: str) -> None:
        scopes = frozenset({Scope.INFERENCE})
        self._registry.create_key(tenant, name="one", scopes=scopes, actor=ADMIN)

    def _rotate(self, tenant: str) -> None:
        self._registry.rotate_key(
            tenant, self._any_key(tenant), overlap=timedelta(hours=1), actor=ADMIN
        )

    def _revoke(self, tenant: str) -> None:
        self._registry.revoke_key(tenant, self._any_key(tenant), actor=ADMIN)

    def _push(self, tenant: str) -> None:
        self._registry.push(
            tenant,
            self._chance.choice(["support", "sales"]),
            self._folder,
            base=BASE,
            max_rank=16,
            profile=ServingProfile(),
            actor=ADMIN,
        )

    def _evaluate(self, tenant: str) -> None:
        verdict = self._chance.choice([*Verdict])
        self._registry.evaluate(
            tenant, "support", self._number(), Evaluation(verdict=verdict), actor=ADMIN
        )

    def _promote(self, tenant: str) -> None:
        self._registry.promote(tenant, "support", self._number(), force=True, actor=ADMIN)

    def _rollback(self, tenant: str) -> None:
        self._registry.rollback(tenant, "support", actor=ADMIN)

    def _drop(self, tenant: str) -> None:
        self._registry.delete_version(tenant, "support", self._number(), actor=ADMIN)

    def _number(self) -> int:
        return self._chance.randint(1, 4)

    def _any_key(self, tenant: str) -> str:
        keys = self._registry.snapshot().keys.values()
        own = sorted(key.id for key in keys if key.tenant == tenant)
        return self._chance.choice(own or ["none"])
