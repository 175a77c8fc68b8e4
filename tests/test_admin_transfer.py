"""The routes that move a tenant, and everything, against a real registry."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_registry.archive import Kind, OutgoingArchive, Part, document
from adapters_registry.backups import read_backup
from adapters_registry.registry import Registry
from gateway.admin_transfer import ArchiveResponse
from tests.admin_gateway import AdminGateway, admin_gateway
from tests.archives_for_tests import edited, unpack

TAR = {"content-type": "application/x-tar"}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[AdminGateway]:
    async with admin_gateway(tmp_path / "one") as found:
        await found.tenant("acme")
        await found.push("acme/support")
        await found.push("acme/support", seed=1)
        body = {"version": 2, "force": True, "reason": "a try"}
        promoted = await found.admin.post("/tenants/acme/adapters/support/promote", json=body)
        assert promoted.status_code == 200
        yield found


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[AdminGateway]:
    async with admin_gateway(tmp_path / "two") as found:
        yield found


def staged(gateway: AdminGateway) -> list[Path]:
    folder = gateway.parts.settings.staging_dir
    return list(folder.iterdir()) if folder.exists() else []


async def exported(gateway: AdminGateway) -> bytes:
    answer = await gateway.admin.get("/tenants/acme/export")
    assert answer.status_code == 200
    return answer.content


async def imported(gateway: AdminGateway, content: bytes, **params: str) -> httpx.Response:
    return await gateway.admin.post("/tenants/import", content=content, params=params, headers=TAR)


async def test_a_tenant_goes_from_one_gateway_to_another(
    gateway: AdminGateway, other: AdminGateway
) -> None:
    made = await imported(other, await exported(gateway), name="acme-2", reason="moved")
    assert made.status_code == 201
    assert made.json()["name"] == "acme-2"
    adapter = (await other.admin.get("/tenants/acme-2/adapters/support")).json()
    assert (adapter["live"], [version["version"] for version in adapter["versions"]]) == (2, [2, 1])
    moves = (await other.admin.get("/tenants/acme-2/adapters/support/history")).json()["data"]
    assert [move["reason"] for move in moves] == ["a try", None, None]
    assert (await other.admin.get("/tenants/acme-2/keys")).json() == {"data": []}
    audit = (await other.admin.get("/audit")).json()["data"]
    assert [(entry["action"], entry["actor"]) for entry in audit] == [("tenant.import", "admin")]
    assert staged(other) == []


async def test_an_export_names_its_size_and_is_kept_by_nobody(gateway: AdminGateway) -> None:
    answer = await gateway.admin.get("/tenants/acme/export")
    assert answer.headers["content-type"] == "application/x-tar"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["cache-control"] == "no-store"
    assert 'filename="acme.tar"' in answer.headers["content-disposition"]


async def test_a_backup_holds_everything(gateway: AdminGateway, tmp_path: Path) -> None:
    answer = await gateway.admin.get("/backup")
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert read_backup(io.BytesIO(answer.content)).manifest.counts["artifacts"] == 2
    assert staged(gateway) == []
    copy = Registry.open(f"sqlite:///{tmp_path}/copy/r.db", tmp_path / "copy" / "artifacts")
    copy.restore(io.BytesIO(answer.content), tmp_path)
    assert copy.snapshot().keys == gateway.parts.registry.snapshot().keys
    copy.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/tenants/acme/export"), ("POST", "/tenants/import"), ("GET", "/backup")],
)
async def test_the_admin_key_alone_moves_data(
    gateway: AdminGateway, method: str, path: str
) -> None:
    async with gateway.client(await gateway.key("acme")) as client:
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "admin_key_needed")


async def test_a_missing_tenant_is_a_404(gateway: AdminGateway) -> None:
    for name in ("nobody", "Not A Name"):
        assert (await gateway.admin.get(f"/tenants/{name}/export")).status_code == 404


async def test_a_bad_archive_leaves_nothing_behind(
    gateway: AdminGateway, other: AdminGateway
) -> None:
    content = await exported(gateway)
    for bad in (b"", content[:-3000], edited(content, "tenant.json", limits={})):
        answer = await imported(other, bad)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_archive")
        assert answer.json()["error"]["param"] == "archive"
    assert other.parts.registry.revision() == 0
    assert list(other.parts.registry.artifacts.contents()) == []
    assert staged(other) == []


async def test_a_taken_name_is_a_conflict(gateway: AdminGateway) -> None:
    answer = await imported(gateway, await exported(gateway))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "already_exists")
    answer = await imported(gateway, await exported(gateway), name="No Name")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "name")


async def test_the_base_models_name_is_taken(gateway: AdminGateway, other: AdminGateway) -> None:
    content = await exported(gateway)
    assert "adapters/support/adapter.json" in unpack(content)
    other.parts.base_name = "support"
    answer = await imported(other, content)
    assert answer.status_code == 400
    assert "base model" in answer.json()["error"]["message"]


async def test_what_is_no_tar_by_its_own_word_is_not_read(gateway: AdminGateway) -> None:
    answer = await gateway.admin.post("/tenants/import", files={"archive": b"x"})
    assert answer.status_code == 415


async def test_an_archive_is_capped(tmp_path: Path) -> None:
    async with admin_gateway(tmp_path, archive_bytes=4096) as small:

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield bytes(1000)

        answer = await small.admin.post("/tenants/import", content=endless(), headers=TAR)
        assert answer.status_code == 413
        assert staged(small) == []


# The stream itself


class _Noted(OutgoingArchive):
    """Notes that it was closed."""

    closed = 0

    def __init__(self, parts: list[Part]) -> None:
        super().__init__(Kind.BACKUP, parts, {}, close=self._closed)

    def _closed(self) -> None:
        self.closed += 1


class _Client:
    """An ASGI server's two calls. leaves_after: messages, after which the client is gone."""

    def __init__(self, leaves_after: int | None = None) -> None:
        self._leaves_after = leaves_after
        self._gone = asyncio.Event()
        self.messages: list[Any] = []

    async def receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if len(self.messages) == self._leaves_after:
            self._gone.set()
            await asyncio.sleep(0)


def many_parts(count: int) -> list[Part]:
    return [document(f"part-{number}", b"x") for number in range(count)]


async def test_a_stream_ends_with_its_archive_closed() -> None:
    archive, client = _Noted(many_parts(3)), _Client()
    await ArchiveResponse(archive, "x.tar")({"type": "http"}, client.receive, client.send)
    body = b"".join(message.get("body", b"") for message in client.messages)
    assert len(body) == archive.size_bytes
    assert "more_body" not in client.messages[-1]
    assert archive.closed == 1


async def test_a_client_that_leaves_ends_the_stream() -> None:
    archive, client = _Noted(many_parts(1000)), _Client(leaves_after=5)
    await ArchiveResponse(archive, "x.tar")({"type": "http"}, client.receive, client.send)
    assert len(client.messages) < 20
    assert archive.closed == 1


@pytest.fixture
def broken_part(tmp_path: Path) -> Part:
    promised = document("broken", b"words")
    (tmp_path / "file").write_bytes(b"other")
    return Part("broken", 5, promised.sha256, lambda: (tmp_path / "file").open("rb"))


async def test_a_failure_in_the_middle_breaks_the_stream_off(broken_part: Part) -> None:
    archive, client = _Noted([*many_parts(3), broken_part]), _Client()
    with pytest.raises(Exception, match="broken is damaged"):
        await ArchiveResponse(archive, "x.tar")({"type": "http"}, client.receive, client.send)
    assert client.messages[-1]["more_body"]
    assert archive.closed == 1
