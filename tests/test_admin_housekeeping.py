"""The routes /gc and /verify, and the gateway's own housekeeping, on a real registry."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_registry.artifacts import WEIGHTS_FILE
from adapters_registry.types import Version
from gateway.housekeeping import keep_house
from tests.admin_gateway import AdminGateway, admin_gateway
from tests.test_housekeeping import flip_a_byte

SUPPORT = "/tenants/acme/adapters/support"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[AdminGateway]:
    async with admin_gateway(tmp_path) as found:
        await found.tenant("acme")
        await found.push(seed=1)
        await found.push(seed=2)
        yield found


def version(gateway: AdminGateway, number: int) -> Version:
    return gateway.parts.snapshots.current.tenants["acme"].adapters["support"].versions[number]


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (await client.post(path, json=body)).raise_for_status().json()
    return found


async def test_gc_removes_what_was_deleted_longer_ago_than_the_grace(
    gateway: AdminGateway,
) -> None:
    gone = version(gateway, 2)
    (await gateway.admin.delete(f"{SUPPORT}/versions/2")).raise_for_status()
    nothing = {"removed": [], "freed_bytes": 0, "kept": 2, "purged_tenants": []}
    assert await post(gateway.admin, "/gc", {}) == nothing
    assert await post(gateway.admin, "/gc", {"grace_s": 3600}) == nothing
    assert await post(gateway.admin, "/gc", {"grace_s": 0}) == {
        "removed": [gone.digest],
        "freed_bytes": gone.size_bytes,
        "kept": 1,
        "purged_tenants": [],
    }
    assert not gone.path.exists()
    assert await post(gateway.admin, "/verify", {}) == {"checked": 1, "damaged": []}


async def test_gc_spares_what_the_engine_holds(gateway: AdminGateway) -> None:
    gone = version(gateway, 2)
    (await gateway.admin.delete(f"{SUPPORT}/versions/2")).raise_for_status()
    gateway.parts.engine.holds = {gone.digest[:12]}
    assert (await post(gateway.admin, "/gc", {"grace_s": 0}))["removed"] == []
    gateway.parts.engine.holds = set()
    assert (await post(gateway.admin, "/gc", {"grace_s": 0}))["removed"] == [gone.digest]


async def test_gc_sweeps_what_killed_uploads_left(gateway: AdminGateway) -> None:
    left = gateway.parts.settings.staging_dir / "left"
    await asyncio.to_thread(left.mkdir, parents=True, exist_ok=True)
    await post(gateway.admin, "/gc", {})
    assert not left.exists()


@pytest.mark.parametrize(
    "body", [{"grace_s": -1}, {"grace_s": "1h"}, {"grace": 1}, {"grace_s": 1e99}]
)
async def test_a_bad_body_is_refused_by_field(gateway: AdminGateway, body: Any) -> None:
    answer = await gateway.admin.post("/gc", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(body))


async def test_verify_names_the_damaged_version_and_the_others_are_unharmed(
    gateway: AdminGateway,
) -> None:
    bad = version(gateway, 2)
    flip_a_byte(bad.path / WEIGHTS_FILE)
    assert await post(gateway.admin, "/verify", {}) == {
        "checked": 2,
        "damaged": [{"version": "acme/support@2", "digest": bad.digest, "damage": "damaged"}],
    }
    assert (await gateway.push(seed=2))["digest"] == bad.digest
    assert (await post(gateway.admin, "/verify", {}))["damaged"] == []


@pytest.mark.parametrize("path", ["/gc", "/verify"])
async def test_only_the_admin_key_keeps_house(gateway: AdminGateway, path: str) -> None:
    async with gateway.client(await gateway.key("acme")) as client:
        answer = await client.post(path, json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "admin_key_needed")


async def test_the_gateway_keeps_house_by_itself(tmp_path: Path) -> None:
    async with admin_gateway(tmp_path) as gateway:
        await gateway.tenant("acme")
        await gateway.push(seed=1)
        gone = version(gateway, 1)
        (await gateway.admin.delete(f"{SUPPORT}/versions/1")).raise_for_status()
        parts: Any = gateway.parts
        parts.settings = parts.settings.model_copy(update={"gc_every_s": 0.01, "gc_grace_s": 0.0})
        task = asyncio.create_task(keep_house(parts))
        async with asyncio.timeout(30):
            while gone.path.exists():  # noqa: ASYNC110 - what is waited for is a file
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        (entry, *_) = (await gateway.admin.get("/audit")).json()["data"]
        assert (entry["action"], entry["actor"]) == ("artifacts.collect", "gateway")
