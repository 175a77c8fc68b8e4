"""The admin routes against a real registry."""

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_registry.errors import DatabaseUnavailable
from gateway.engine import EngineState
from gateway.errors import EngineFailed, EngineUnavailable
from gateway.snapshots import Snapshots
from tests.admin_gateway import ADMIN_KEY, BASE_NAME, AdminGateway, adapter_files, admin_gateway

SUPPORT = "/tenants/acme/adapters/support"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[AdminGateway]:
    async with admin_gateway(tmp_path) as found:
        yield found


@pytest.fixture
async def acme(gateway: AdminGateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key of tenant acme that has both scopes."""
    async with gateway.client(await gateway.tenant("acme")) as client:
        yield client


def error(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


# Tenants


async def test_a_tenants_life(gateway: AdminGateway) -> None:
    made = await gateway.admin.post("/tenants", json={"name": "acme"})
    assert made.status_code == 201
    assert set(made.json()) == {"name", "policy", "created_at"}
    assert (await gateway.admin.get("/tenants")).json() == {"data": [made.json()]}
    assert (await gateway.admin.get("/tenants/acme")).json() == made.json()
    assert (await gateway.admin.delete("/tenants/acme")).status_code == 204
    assert (await gateway.admin.get("/tenants")).json() == {"data": []}
    for call in (gateway.admin.get, gateway.admin.delete):
        assert (await call("/tenants/acme")).status_code == 404


async def test_a_policy_keeps_the_fields_that_a_patch_does_not_name(gateway: AdminGateway) -> None:
    await gateway.tenant("acme")
    changed = await gateway.admin.patch("/tenants/acme", json={"policy": {"allow_base": False}})
    assert changed.json()["policy"] == {"allow_base": False, "require_pass": False}
    same = await gateway.admin.patch("/tenants/acme", json={"policy": {"require_pass": True}})
    assert same.json()["policy"] == {"allow_base": False, "require_pass": True}
    assert not gateway.parts.snapshots.current.tenants["acme"].policy.allow_base


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": 7}, "name"),
        ({"name": "acme", "limits": {}}, "limits"),
        ({"name": "Not A Name"}, "name"),
        ({"name": "a" * 64}, "name"),
        ([], None),
        ("", None),
    ],
)
async def test_a_bad_tenant_is_refused_by_field(
    gateway: AdminGateway, body: Any, param: str | None
) -> None:
    answer = await gateway.admin.post("/tenants", json=body)
    assert answer.status_code == 400
    assert error(answer)["param"] == param


async def test_a_taken_name_is_a_conflict(gateway: AdminGateway) -> None:
    await gateway.tenant("acme")
    answer = await gateway.admin.post("/tenants", json={"name": "acme"})
    assert (answer.status_code, error(answer)["code"]) == (409, "already_exists")


async def test_broken_json_is_a_400_and_not_repeated(gateway: AdminGateway) -> None:
    answer = await gateway.admin.post("/tenants", content=b'{"name": "sesame')
    assert answer.status_code == 400
    assert "sesame" not in answer.text


async def test_a_patch_of_limits_is_not_taken_yet(gateway: AdminGateway) -> None:
    await gateway.tenant("acme")
    answer = await gateway.admin.patch("/tenants/acme", json={"limits": {"weight": 2}})
    assert answer.status_code == 400


# Keys


async def test_a_keys_life(gateway: AdminGateway) -> None:
    await gateway.admin.post("/tenants", json={"name": "acme"})
    body = {"name": "laptop", "scopes": ["manage"]}
    made = await gateway.admin.post("/tenants/acme/keys", json=body)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    key = made.json()
    async with gateway.client(key.pop("key")) as client:
        listed = await client.get("/tenants/acme/keys")
        used = listed.json()["data"][0].pop("last_used_at")
        assert used >= key.pop("created_at")
        assert key.pop("last_used_at") is None
        (found,) = listed.json()["data"]
        assert found.items() >= key.items()
        assert key["name"] == "laptop"
        assert key["scopes"] == ["manage"]
        assert (await gateway.admin.delete(f"/tenants/acme/keys/{key['id']}")).status_code == 204
        assert (await client.get("/tenants/acme/keys")).status_code == 401


async def test_a_key_without_wishes_may_only_call_models(gateway: AdminGateway) -> None:
    await gateway.tenant("acme")
    answer = await gateway.admin.post("/tenants/acme/keys", json={})
    assert answer.json()["scopes"] == ["inference"]


@pytest.mark.parametrize(
    ("body", "param"),
    [({"scopes": []}, "scopes"), ({"scopes": ["root"]}, "scopes.0"), ({"name": "\x00"}, "name")],
)
async def test_a_bad_key_is_refused_by_field(
    gateway: AdminGateway, body: dict[str, Any], param: str
) -> None:
    await gateway.tenant("acme")
    answer = await gateway.admin.post("/tenants/acme/keys", json=body)
    assert (answer.status_code, error(answer)["param"]) == (400, param)


async def test_a_key_gives_no_scope_that_it_lacks(gateway: AdminGateway) -> None:
    await gateway.tenant("acme")
    async with gateway.client(await gateway.key("acme", "manage")) as client:
        for scopes in (["inference"], ["inference", "manage"]):
            answer = await client.post("/tenants/acme/keys", json={"scopes": scopes})
            assert (answer.status_code, error(answer)["param"]) == (403, "scopes")
        answer = await client.post("/tenants/acme/keys", json={"scopes": ["manage"]})
        assert answer.status_code == 201


async def test_another_tenants_key_cannot_be_revoked(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.tenant("globex")
    theirs = (await gateway.admin.get("/tenants/globex/keys")).json()["data"][0]["id"]
    answers = [
        await acme.delete(f"/tenants/acme/keys/{key}") for key in (theirs, "0" * 16, "no-id")
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert answers[0].text == answers[1].text
    assert theirs in gateway.parts.snapshots.current.keys


# Who may do what


async def test_a_tenants_key_manages_its_own_tenant_only(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.tenant("globex")
    await gateway.push("globex/support")
    assert [t["name"] for t in (await acme.get("/tenants")).json()["data"]] == ["acme"]
    for method, path, body in [
        ("GET", "", None),
        ("GET", "/keys", None),
        ("POST", "/keys", {}),
        ("GET", "/adapters", None),
        ("GET", "/adapters/support", None),
        ("GET", "/adapters/support/versions", None),
        ("GET", "/adapters/support/versions/1", None),
        ("GET", "/adapters/support/versions/1/card", None),
        ("POST", "/adapters/support/versions/1/evaluation", {"verdict": "passed"}),
        ("POST", "/keys/0123456789abcdef/rotate", {}),
        ("DELETE", "/adapters/support/versions/1", None),
        ("POST", "/adapters/support/versions", None),
        ("POST", "/adapters/support/promote", {"version": 1}),
        ("POST", "/adapters/support/rollback", {}),
        ("GET", "/adapters/support/history", None),
    ]:
        theirs = await acme.request(method, f"/tenants/globex{path}", json=body)
        missing = await acme.request(method, f"/tenants/nobody{path}", json=body)
        assert theirs.status_code == 404, (method, path)
        assert theirs.text.replace("globex", "nobody") == missing.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/tenants"),
        ("PATCH", "/tenants/acme"),
        ("DELETE", "/tenants/acme"),
        ("GET", "/deleted-tenants"),
        ("POST", "/deleted-tenants/acme/restore"),
        ("GET", "/engines"),
        ("POST", "/refresh"),
        ("GET", "/in-flight?tenant=acme&adapter=support&version=1"),
        ("GET", "/audit"),
    ],
)
async def test_what_the_admin_key_alone_may_do(
    acme: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await acme.request(method, path, json={})
    assert (answer.status_code, error(answer)["code"]) == (403, "admin_key_needed")


async def test_no_route_answers_without_a_key(gateway: AdminGateway) -> None:
    paths = gateway.app.openapi()["paths"]
    assert len(paths) > 10
    places = {"t": "acme", "a": "support", "n": 1, "key_id": "0", "name": "adapter_config.json"}
    async with gateway.client(None) as client:
        for path, methods in paths.items():
            for method in methods:
                url = path.removeprefix("/admin/v1").format(**places)
                answer = await client.request(method, url)
                assert answer.status_code == 401, (method, path)


async def test_a_body_is_not_read_before_the_key_is_known(gateway: AdminGateway) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async with gateway.client("wrong") as client:
        for path in ("/tenants", SUPPORT + "/versions", SUPPORT + "/promote"):
            assert (await client.post(path, content=body())).status_code == 401


# Versions


async def test_a_push_makes_a_candidate(gateway: AdminGateway, acme: httpx.AsyncClient) -> None:
    metadata = {"serving_profile": {"system_prompt": "Be brief.", "stop": ["END"]}}
    files = adapter_files() | {"metadata.json": json.dumps(metadata).encode()}
    pushed = await acme.post(SUPPORT + "/versions", files=files)
    assert pushed.status_code == 201
    version = pushed.json()
    assert (version["version"], version["state"], version["rank"]) == (1, "candidate", 4)
    assert len(version["digest"]) == 64
    assert version["profile"]["system_prompt"] == "Be brief."
    shown = (await acme.get(SUPPORT + "/versions/1")).json()
    assert shown.items() >= version.items()
    listed = await acme.get(SUPPORT + "/versions")
    assert listed.json() == {"data": [version]}
    assert "path" not in pushed.text
    assert list(gateway.parts.settings.staging_dir.iterdir()) == []


async def test_versions_are_listed_newest_first(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    for seed in (1, 2):
        await gateway.push(seed=seed)
    await gateway.push("acme/another")
    listed = (await acme.get(SUPPORT + "/versions")).json()["data"]
    assert [version["version"] for version in listed] == [2, 1]
    adapters = (await acme.get("/tenants/acme/adapters")).json()["data"]
    assert [adapter["adapter"] for adapter in adapters] == ["another", "support"]
    assert adapters[1]["versions"] == listed
    assert adapters[1]["live"] is None
    shown = await acme.get(SUPPORT)
    assert shown.json() == adapters[1]
    assert shown.headers["etag"] == f'"{adapters[1]["revision"]}"'


async def test_an_adapter_that_the_engine_would_refuse_is_refused(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    answer = await acme.post(SUPPORT + "/versions", files=adapter_files(use_dora=True))
    assert (answer.status_code, error(answer)["code"]) == (400, "invalid_adapter")
    assert error(answer)["param"] == "use_dora"
    assert (await acme.get(SUPPORT)).status_code == 404
    assert list(gateway.parts.settings.staging_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("metadata", "param"),
    [
        ({"serving_profile": {"sampling": {"temperature": 9}}}, "serving_profile.sampling"),
        ({"serving_profile": {"prompt": "x"}}, "serving_profile.prompt"),
        ({"author": "me"}, "author"),
    ],
)
async def test_bad_metadata_is_refused_by_field(
    acme: httpx.AsyncClient, metadata: dict[str, Any], param: str
) -> None:
    files = adapter_files() | {"metadata.json": json.dumps(metadata).encode()}
    answer = await acme.post(SUPPORT + "/versions", files=files)
    assert answer.status_code == 400
    assert error(answer)["param"].startswith(f"metadata.json: {param}")


async def test_a_push_from_a_source_needs_the_admin_key(acme: httpx.AsyncClient) -> None:
    """It is fetched with the operator's credentials."""
    answer = await acme.post(SUPPORT + "/versions", json={"source": "hf://someone/something"})
    assert (answer.status_code, error(answer)["code"]) == (403, "admin_key_needed")


async def test_a_push_of_another_kind_says_what_is_taken(acme: httpx.AsyncClient) -> None:
    answer = await acme.post(
        SUPPORT + "/versions", content=b"x", headers={"content-type": "text/plain"}
    )
    assert answer.status_code == 415
    assert "multipart/form-data" in error(answer)["message"]


@pytest.mark.parametrize("name", ["Not-A-Name", "-x", "a" * 64, BASE_NAME])
async def test_a_push_under_a_name_that_cannot_be_is_refused_before_the_body(
    acme: httpx.AsyncClient, name: str
) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = await acme.post(
        f"/tenants/acme/adapters/{name}/versions",
        content=body(),
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert (answer.status_code, error(answer)["param"]) == (400, "adapter")


async def test_a_push_for_a_missing_tenant_is_refused(gateway: AdminGateway) -> None:
    answer = await gateway.admin.post(
        "/tenants/nobody/adapters/support/versions", files=adapter_files()
    )
    assert answer.status_code == 404


@pytest.mark.parametrize("number", ["2", "99999999"])
async def test_a_missing_version_is_a_404(
    gateway: AdminGateway, acme: httpx.AsyncClient, number: str
) -> None:
    await gateway.push()
    assert (await acme.get(f"{SUPPORT}/versions/{number}")).status_code == 404
    assert (await acme.delete(f"{SUPPORT}/versions/{number}")).status_code == 404
    answer = await acme.post(SUPPORT + "/promote", json={"version": int(number)})
    assert answer.status_code == 404


@pytest.mark.parametrize("number", ["0", "-1", "x", "99999999999999999999"])
async def test_what_is_no_version_number_is_a_400(acme: httpx.AsyncClient, number: str) -> None:
    answer = await acme.get(f"{SUPPORT}/versions/{number}")
    assert (answer.status_code, error(answer)["param"]) == (400, "n")


@pytest.mark.parametrize("name", ["nothing", "Not-A-Name", "%00"])
async def test_a_missing_adapter_is_a_404_everywhere(acme: httpx.AsyncClient, name: str) -> None:
    adapter = f"/tenants/acme/adapters/{name}"
    for answer in [
        await acme.get(adapter),
        await acme.get(f"{adapter}/versions"),
        await acme.get(f"{adapter}/history"),
        await acme.post(f"{adapter}/promote", json={"version": 1}),
        await acme.post(f"{adapter}/rollback", json={}),
        await acme.delete(f"{adapter}/versions/1"),
        await acme.get(f"{adapter}/versions/1"),
        await acme.get(f"{adapter}/versions/1/card"),
        await acme.post(f"{adapter}/versions/1/evaluation", json={"verdict": "passed"}),
    ]:
        assert answer.status_code == 404


async def test_a_version_is_deleted_unless_live_or_in_flight(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    for seed in (1, 2):
        await gateway.push(seed=seed)
    (await acme.post(SUPPORT + "/promote", json={"version": 1})).raise_for_status()
    live = await acme.delete(SUPPORT + "/versions/1")
    assert (live.status_code, error(live)["code"]) == (409, "illegal_move")
    gateway.parts.engine.busy["acme/support@2"] = 3
    busy = await acme.delete(SUPPORT + "/versions/2")
    assert (busy.status_code, error(busy)["code"]) == (409, "version_in_flight")
    gateway.parts.engine.busy.clear()
    assert (await acme.delete(SUPPORT + "/versions/2")).status_code == 204
    assert (await acme.get(SUPPORT + "/versions/2")).status_code == 404


# Promote and roll back


async def test_promote_loads_first_and_moves_the_pointer(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.push()
    answer = await acme.post(SUPPORT + "/promote", json={"version": 1, "reason": "better"})
    assert answer.status_code == 200
    assert answer.json()["live"] == 1
    assert answer.headers["etag"] == f'"{answer.json()["revision"]}"'
    assert gateway.parts.engine.loads == ["acme/support@1"]
    assert gateway.parts.snapshots.current.tenants["acme"].adapters["support"].live == 1


async def test_a_version_that_the_engine_refuses_does_not_go_live(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.push()
    gateway.parts.engine.refuses = EngineFailed("The engine refused.", code="adapter_load_failed")
    answer = await acme.post(SUPPORT + "/promote", json={"version": 1})
    assert (answer.status_code, error(answer)["code"]) == (409, "adapter_load_failed")
    assert (await acme.get(SUPPORT)).json()["live"] is None


async def test_an_engine_that_goes_away_meanwhile_is_a_503(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.push()
    gateway.parts.engine.refuses = EngineUnavailable("The engine is gone.", retry_after_s=5)
    answer = await acme.post(SUPPORT + "/promote", json={"version": 1})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert (await acme.get(SUPPORT)).json()["live"] is None


async def test_while_the_engine_is_down_only_a_forced_promote_works(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.push()
    engine = gateway.parts.engine
    engine.state = EngineState.DOWN
    engine.refuses = EngineUnavailable("The engine is not ready.", retry_after_s=5)
    refused = await acme.post(SUPPORT + "/promote", json={"version": 1})
    assert refused.status_code == 503
    assert (await acme.get(SUPPORT)).json()["live"] is None
    forced = await acme.post(SUPPORT + "/promote", json={"version": 1, "force": True})
    assert forced.json()["live"] == 1
    assert (await acme.get(SUPPORT + "/history")).json()["data"][0]["forced"] is True


async def test_rollback_goes_to_the_version_before_or_to_the_one_named(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    for number in (1, 2, 3):
        await gateway.push(seed=number)
        await acme.post(SUPPORT + "/promote", json={"version": number})
    assert (await acme.post(SUPPORT + "/rollback", json={})).json()["live"] == 2
    assert (await acme.post(SUPPORT + "/rollback", json={"to": 1})).json()["live"] == 1
    answer = await acme.post(SUPPORT + "/rollback", json={"to": 1})
    assert (answer.status_code, error(answer)["code"]) == (409, "illegal_move")


async def test_history_tells_who_moved_what_and_why(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.push()
    await acme.post(SUPPORT + "/promote", json={"version": 1, "reason": "better", "force": True})
    newest = (await acme.get(SUPPORT + "/history")).json()["data"][0]
    key_id = (await acme.get("/tenants/acme/keys")).json()["data"][0]["id"]
    del newest["at"]
    assert newest == {
        "actor": f"key:{key_id}",
        "action": "promote",
        "from": None,
        "to": 1,
        "reason": "better",
        "forced": True,
    }


@pytest.mark.parametrize("quoted", [True, False])
async def test_if_match_lets_only_the_current_revision_pass(
    gateway: AdminGateway, acme: httpx.AsyncClient, quoted: bool
) -> None:
    await gateway.push()
    revision = (await acme.get(SUPPORT)).json()["revision"]

    async def promote(version: int, revision: int) -> httpx.Response:
        tag = f'"{revision}"' if quoted else f"{revision}"
        body = {"version": version}
        return await acme.post(SUPPORT + "/promote", json=body, headers={"if-match": tag})

    assert (await promote(1, revision)).status_code == 200
    await gateway.push(seed=2)
    stale = await promote(2, revision)
    assert (stale.status_code, error(stale)["code"]) == (412, "stale_revision")
    rollback = await acme.post(
        SUPPORT + "/rollback", json={"to": 2}, headers={"if-match": f'"{revision}"'}
    )
    assert rollback.status_code == 412
    assert (await acme.get(SUPPORT)).json()["live"] == 1


@pytest.mark.parametrize("tag", ["x", '""', '"1', 'W/"1"', '"1", "2"', "-1", "9" * 40])
async def test_a_malformed_if_match_is_a_400(
    gateway: AdminGateway, acme: httpx.AsyncClient, tag: str
) -> None:
    await gateway.push()
    for move, body in (("promote", {"version": 1}), ("rollback", {})):
        answer = await acme.post(f"{SUPPORT}/{move}", json=body, headers={"if-match": tag})
        assert (answer.status_code, error(answer)["param"]) == (400, "If-Match")


@pytest.mark.parametrize(
    ("move", "body", "param"),
    [
        ("promote", {}, "version"),
        ("promote", {"version": "1"}, "version"),
        ("promote", {"version": True}, "version"),
        ("promote", {"version": 2**63}, "version"),
        ("promote", {"version": 1, "percent": 5}, "percent"),
        ("promote", {"version": 1, "reason": "\x00"}, "reason"),
        ("promote", {"version": 1, "reason": "x" * 5000}, "reason"),
        ("rollback", {"to": 0}, "to"),
        ("rollback", {"version": 1}, "version"),
    ],
)
async def test_a_bad_move_is_refused_by_field(
    gateway: AdminGateway, acme: httpx.AsyncClient, move: str, body: dict[str, Any], param: str
) -> None:
    await gateway.push()
    answer = await acme.post(f"{SUPPORT}/{move}", json=body)
    assert (answer.status_code, error(answer)["param"]) == (400, param)


# The rest


async def test_the_audit_is_paged_newest_first(gateway: AdminGateway) -> None:
    for name in ("one", "two", "three"):
        await gateway.admin.post("/tenants", json={"name": name})
    first = (await gateway.admin.get("/audit", params={"limit": 2})).json()["data"]
    assert [entry["target"] for entry in first] == ["three", "two"]
    assert {entry["actor"] for entry in first} == {"admin"}
    rest = await gateway.admin.get("/audit", params={"before": first[-1]["id"]})
    assert [entry["target"] for entry in rest.json()["data"]] == ["one"]


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 10**9}, {"before": "x"}])
async def test_a_bad_audit_page_is_refused(gateway: AdminGateway, query: dict[str, Any]) -> None:
    answer = await gateway.admin.get("/audit", params=query)
    assert (answer.status_code, error(answer)["param"]) == (400, next(iter(query)))


async def test_engines_are_shown(gateway: AdminGateway) -> None:
    answer = await gateway.admin.get("/engines")
    assert answer.json() == {"data": [{"id": "one", "state": "up"}]}


async def test_a_refresh_brings_what_was_written_elsewhere(gateway: AdminGateway) -> None:
    gateway.parts.registry.create_tenant("acme", actor="admin")
    assert "acme" not in gateway.parts.snapshots.current.tenants
    answer = await gateway.admin.post("/refresh")
    assert answer.json() == {"revision": gateway.parts.registry.revision()}
    assert "acme" in gateway.parts.snapshots.current.tenants


async def test_calls_in_flight_are_told_of_one_version(gateway: AdminGateway) -> None:
    await gateway.tenant("acme")
    await gateway.push()
    gateway.parts.engine.busy["acme/support@1"] = 3
    asked: dict[str, str | int] = {"tenant": "acme", "adapter": "support", "version": 1}
    answer = await gateway.admin.get("/in-flight", params=asked)
    assert answer.json() == {"in_flight": 3}
    missing = await gateway.admin.get("/in-flight", params=asked | {"version": 2})
    assert missing.status_code == 404


async def test_what_another_gateway_stored_a_moment_ago_is_found(gateway: AdminGateway) -> None:
    """The registry has moved on, this gateway's snapshot not yet."""
    gateway.parts.registry.create_tenant("acme", actor="admin")
    path = SUPPORT + "/versions"
    assert (await gateway.admin.post(path, files=adapter_files())).status_code == 201
    before = gateway.parts.snapshots.current
    await gateway.push(seed=2)
    gateway.parts.snapshots.current = before
    answer = await gateway.admin.post(SUPPORT + "/promote", json={"version": 2})
    assert answer.json()["live"] == 2


async def test_a_locked_database_is_a_503_and_reads_go_on(gateway: AdminGateway) -> None:
    await gateway.tenant("acme")
    database = gateway.parts.settings.data_dir / "registry.db"
    other = sqlite3.connect(database, isolation_level=None)
    with contextlib.closing(other):
        other.execute("BEGIN IMMEDIATE")
        answer = await gateway.admin.post("/tenants", json={"name": "globex"})
        assert (answer.status_code, error(answer)["code"]) == (503, "registry_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert len((await gateway.admin.get("/tenants")).json()["data"]) == 1
    assert (await gateway.admin.post("/tenants", json={"name": "globex"})).status_code == 201


async def test_a_write_is_acknowledged_although_the_snapshot_could_not_follow(
    gateway: AdminGateway,
) -> None:
    class Away(Snapshots):
        async def refresh(self) -> None:
            raise DatabaseUnavailable("gone a moment after the commit")

    gateway.parts.snapshots = Away(gateway.parts.registry, 1.0)
    answer = await gateway.admin.post("/tenants", json={"name": "acme"})
    assert answer.status_code == 201
    assert "acme" in gateway.parts.registry.snapshot().tenants


async def test_no_answer_and_no_row_holds_a_key(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    key = acme.headers["authorization"].removeprefix("Bearer ")
    secret = key.split("_", 2)[2]
    await gateway.push()
    seen = [
        await gateway.admin.get(path)
        for path in ("/tenants", "/tenants/acme/keys", SUPPORT + "/history", "/audit", "/engines")
    ]
    assert not any(secret in answer.text or ADMIN_KEY in answer.text for answer in seen)
    database = gateway.parts.settings.data_dir / "registry.db"
    stored = b"".join(file.read_bytes() for file in database.parent.glob("registry.db*"))
    assert b"acme" in stored
    assert secret.encode() not in stored
