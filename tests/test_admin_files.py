"""The route of a version's files, against a real registry."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.admin_gateway import AdminGateway, adapter_files, admin_gateway

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FILES = "/tenants/acme/adapters/support/versions/1/files"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[AdminGateway]:
    async with admin_gateway(tmp_path) as found:
        await found.tenant("acme")
        await found.push(seed=1)
        yield found


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def stored(gateway: AdminGateway) -> Path:
    return gateway.parts.snapshots.current.tenants["acme"].adapters["support"].versions[1].path


async def test_both_files_come_as_they_were_pushed(gateway: AdminGateway) -> None:
    for name, content in adapter_files(1).items():
        answer = await gateway.admin.get(f"{FILES}/{name}")
        assert answer.status_code == 200
        assert answer.content == content
        assert answer.headers["content-length"] == str(len(content))
        assert str(stored(gateway)) not in str(answer.headers)


async def test_range_is_ignored(gateway: AdminGateway) -> None:
    whole = await gateway.admin.get(f"{FILES}/{WEIGHTS}")
    for value in ("bytes=0-9", "bytes=9999999-", "nonsense"):
        answer = await gateway.admin.get(f"{FILES}/{WEIGHTS}", headers={"range": value})
        assert (answer.status_code, answer.content) == (200, whole.content)
    assert whole.headers["accept-ranges"] == "none"


@pytest.mark.parametrize(
    "name", ["metadata.json", "README.md", "%2e%2e", "..%2f..%2fdb", "adapter_config.json%00"]
)
async def test_no_other_file_is_given(gateway: AdminGateway, name: str) -> None:
    (stored(gateway) / "README.md").write_text("not an adapter's file")
    answer = await gateway.admin.get(f"{FILES}/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] in ("not_found", "unknown_route")


async def test_only_a_manager_of_the_tenant_gets_them(gateway: AdminGateway) -> None:
    path = f"{FILES}/{CONFIG}"
    async with gateway.client(await gateway.key("acme", "manage")) as client:
        assert (await client.get(path)).status_code == 200
    async with gateway.client(await gateway.key("acme", "inference")) as client:
        assert (await client.get(path)).status_code == 403
    async with gateway.client(None) as client:
        assert (await client.get(path)).status_code == 401


async def test_to_another_tenant_they_look_like_missing_ones(gateway: AdminGateway) -> None:
    async with gateway.client(await gateway.tenant("rival")) as client:
        there = await client.get(f"{FILES}/{CONFIG}")
        missing = await client.get(f"{FILES}/{CONFIG}".replace("versions/1", "versions/9"))
    assert code(there) == (404, "not_found")
    assert there.json() == missing.json()


async def test_a_missing_version_has_no_files(gateway: AdminGateway) -> None:
    for path in (
        "/tenants/acme/adapters/support/versions/2",
        "/tenants/acme/adapters/other/versions/1",
        "/tenants/none/adapters/support/versions/1",
    ):
        assert code(await gateway.admin.get(f"{path}/files/{CONFIG}")) == (404, "not_found")
    (await gateway.admin.delete(FILES.removesuffix("/files"))).raise_for_status()
    assert code(await gateway.admin.get(f"{FILES}/{CONFIG}")) == (404, "not_found")


@pytest.mark.parametrize("damage", ["gone", "link"])
async def test_a_damaged_store_is_told_and_not_followed(gateway: AdminGateway, damage: str) -> None:
    file = stored(gateway) / CONFIG
    file.unlink()
    if damage == "link":
        file.symlink_to(stored(gateway) / WEIGHTS)
    answer = await gateway.admin.get(f"{FILES}/{CONFIG}")
    assert code(answer) == (507, "storage_failed")
    assert str(file) not in answer.text
