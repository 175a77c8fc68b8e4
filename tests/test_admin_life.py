"""The admin routes of verdicts, model cards, tenants that come back and keys that end."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.admin_gateway import AdminGateway, adapter_files, admin_gateway

SUPPORT = "/tenants/acme/adapters/support"
PASSED = {"verdict": "passed", "report": {"accuracy": 0.9}}
SHA = "1" * 64


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[AdminGateway]:
    async with admin_gateway(tmp_path) as found:
        yield found


@pytest.fixture
async def acme(gateway: AdminGateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key of tenant acme that has both scopes."""
    async with gateway.client(await gateway.tenant("acme")) as client:
        yield client


def error(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    """The status, the code and the field."""
    found = answer.json()["error"]
    return answer.status_code, found["code"], found["param"]


async def audited(gateway: AdminGateway) -> dict[str, Any]:
    """The latest change."""
    found: dict[str, Any] = (await gateway.admin.get("/audit")).json()["data"][0]
    return found


# What a version carries


async def test_a_version_shows_all_that_its_push_said(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    metadata = {
        "lineage": {
            "base": {"revision": "main", "rope_scaling": {"factor": 2.0}},
            "tokenizer_sha256": SHA,
            "dataset": "v3",
            "recipe": {"lr": 1e-4},
        },
        "evaluation": PASSED,
        "reason": "nightly",
    }
    files = adapter_files() | {"metadata.json": json.dumps(metadata).encode()}
    pushed = await acme.post(SUPPORT + "/versions", files=files)
    assert pushed.status_code == 201
    assert (pushed.json()["state"], pushed.json()["verdict"]) == ("passed", "passed")
    assert pushed.json()["proof"] == "unproved"
    shown = (await acme.get(SUPPORT + "/versions/1")).json()
    key_id = (await acme.get("/tenants/acme/keys")).json()["data"][0]["id"]
    assert shown == pushed.json() | {
        "created_by": f"key:{key_id}",
        "summary": {"alpha": 8.0, "dtypes": ["F32"], "modules": 1, "targets": ["q_proj"]},
        "files": shown["files"],
        "lineage": {
            "base": {"name": "tiny", "revision": "main", "rope_scaling": {"factor": 2.0}},
            "tokenizer_sha256": SHA,
            "dataset": "v3",
            "recipe": {"lr": 1e-4},
        },
        "evaluation": PASSED,
        "proof_figures": None,
    }
    assert set(shown["files"]) == {"adapter_config.json", "adapter_model.safetensors"}
    assert (await acme.get(SUPPORT + "/history")).json()["data"][0]["reason"] == "nightly"
    assert str(gateway.parts.settings.data_dir) not in json.dumps(shown)


@pytest.mark.parametrize(
    ("metadata", "param"),
    [
        ({"lineage": {"parent": 0}}, "lineage.parent"),
        ({"lineage": {"base": {"config_sha256": "x"}}}, "lineage.base.config_sha256"),
        ({"lineage": {"recipe": [1]}}, "lineage.recipe"),
        ({"lineage": {"author": "me"}}, "lineage.author"),
        ({"evaluation": {"verdict": "good"}}, "evaluation.verdict"),
        ({"evaluation": {}}, "evaluation.verdict"),
        ({"evaluation": PASSED | {"reason": "x"}}, "evaluation.reason"),
    ],
)
async def test_bad_metadata_is_refused_by_field(
    acme: httpx.AsyncClient, metadata: dict[str, Any], param: str
) -> None:
    files = adapter_files() | {"metadata.json": json.dumps(metadata).encode()}
    answer = await acme.post(SUPPORT + "/versions", files=files)
    assert error(answer) == (400, "invalid_metadata", f"metadata.json: {param}")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_what_json_cannot_say_is_not_stored(acme: httpx.AsyncClient, number: str) -> None:
    """It would be stored, and then no answer with it could be sent."""
    for raw, param in (
        ('{"evaluation": {"verdict": "passed", "report": {"a": [%s]}}}', "evaluation.report"),
        ('{"lineage": {"recipe": {"lr": %s}}}', "lineage.recipe"),
        ('{"lineage": {"base": {"rope_scaling": {"factor": %s}}}}', "lineage.base.rope_scaling"),
    ):
        files = adapter_files() | {"metadata.json": (raw % number).encode()}
        answer = await acme.post(SUPPORT + "/versions", files=files)
        status, code, found = error(answer)
        assert (status, code) == (400, "invalid_metadata")
        assert found is not None
        assert found.startswith(f"metadata.json: {param}")


async def test_an_adapter_of_a_nameless_base_can_be_shown(acme: httpx.AsyncClient) -> None:
    files = adapter_files(base_model_name_or_path="\ud800\x1b")
    (await acme.post(SUPPORT + "/versions", files=files)).raise_for_status()
    shown = await acme.get(SUPPORT + "/versions/1")
    assert shown.json()["lineage"] == {}
    assert (await acme.get(SUPPORT + "/versions/1/card")).status_code == 200


async def test_the_parent_must_exist(acme: httpx.AsyncClient) -> None:
    metadata = json.dumps({"lineage": {"parent": 1}}).encode()
    files = adapter_files() | {"metadata.json": metadata}
    answer = await acme.post(SUPPORT + "/versions", files=files)
    assert error(answer) == (404, "not_found", "lineage.parent")
    assert (await acme.get(SUPPORT)).status_code == 404


async def test_the_card_is_markdown(gateway: AdminGateway, acme: httpx.AsyncClient) -> None:
    await gateway.push()
    answer = await acme.get(SUPPORT + "/versions/1/card")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.text.startswith("---\nbase_model: ")
    assert "# acme/support@1" in answer.text
    assert str(gateway.parts.settings.data_dir) not in answer.text


# Verdicts


async def test_a_verdict_is_recorded_and_opens_the_way(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.push(verdict=None)
    refused = await acme.post(SUPPORT + "/promote", json={"version": 1})
    assert error(refused) == (409, "illegal_move", "force")
    judged = await acme.post(
        SUPPORT + "/versions/1/evaluation", json=PASSED | {"reason": "by hand"}
    )
    assert (judged.status_code, judged.json()["state"]) == (200, "passed")
    assert (await acme.get(SUPPORT + "/versions/1")).json()["evaluation"] == PASSED
    newest = (await acme.get(SUPPORT + "/history")).json()["data"][0]
    assert (newest["action"], newest["to"], newest["reason"]) == ("passed", 1, "by hand")
    assert (await acme.post(SUPPORT + "/promote", json={"version": 1})).json()["live"] == 1


async def test_a_verdict_needs_the_revision_it_was_made_on(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.push()
    revision = (await acme.get(SUPPORT)).json()["revision"]
    path, tag = SUPPORT + "/versions/1/evaluation", {"if-match": f'"{revision}"'}
    body = {"verdict": "rejected"}
    assert (await acme.post(path, json=body, headers=tag)).json()["state"] == "rejected"
    stale = await acme.post(path, json=PASSED, headers=tag)
    assert error(stale)[:2] == (412, "stale_revision")
    forced = await acme.post(SUPPORT + "/promote", json={"version": 1, "force": True})
    assert error(forced) == (409, "illegal_move", "version")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "verdict"),
        ({"verdict": "live"}, "verdict"),
        ({"verdict": "passed", "report": []}, "report"),
        ({"verdict": "passed", "reason": "\x00"}, "reason"),
        ({"verdict": "passed", "version": 1}, "version"),
    ],
)
async def test_a_bad_verdict_is_refused_by_field(
    gateway: AdminGateway, acme: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    await gateway.push(verdict=None)
    answer = await acme.post(SUPPORT + "/versions/1/evaluation", json=body)
    assert (answer.status_code, error(answer)[2]) == (400, param)
    assert (await acme.get(SUPPORT + "/versions/1")).json()["state"] == "candidate"


async def test_whom_a_pass_is_required_of_cannot_pass_its_own(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.push(verdict=None)
    await gateway.admin.patch("/tenants/acme", json={"policy": {"require_pass": True}})
    files = adapter_files() | {"metadata.json": json.dumps({"evaluation": PASSED}).encode()}
    for answer in (
        await acme.post(SUPPORT + "/versions", files=files),
        await acme.post(SUPPORT + "/versions/1/evaluation", json=PASSED),
    ):
        assert error(answer) == (403, "admin_key_needed", "evaluation")
    assert len((await acme.get(SUPPORT + "/versions")).json()["data"]) == 1
    for force in (False, True):
        answer = await acme.post(SUPPORT + "/promote", json={"version": 1, "force": force})
        assert error(answer) == (409, "illegal_move", "version")
    judged = await gateway.admin.post(SUPPORT + "/versions/1/evaluation", json=PASSED)
    assert judged.status_code == 200
    assert (await acme.post(SUPPORT + "/promote", json={"version": 1})).json()["live"] == 1


async def test_no_load_is_spent_on_a_promotion_that_must_fail(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.push(verdict=None)
    await gateway.push(verdict="rejected")
    await gateway.push()
    (await acme.post(SUPPORT + "/promote", json={"version": 3})).raise_for_status()
    gateway.parts.engine.loads.clear()
    for body in ({"version": 1}, {"version": 2, "force": True}, {"version": 3, "force": True}):
        answer = await acme.post(SUPPORT + "/promote", json=body)
        assert error(answer)[:2] == (409, "illegal_move")
    assert gateway.parts.engine.loads == []


# Tenants that come back


async def test_a_deleted_tenant_comes_back_without_its_keys(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.push()
    await acme.post(SUPPORT + "/promote", json={"version": 1})
    assert (await gateway.admin.get("/deleted-tenants")).json() == {"data": []}
    gone = await gateway.admin.delete("/tenants/acme", params={"reason": "left us"})
    assert gone.status_code == 204
    assert (await audited(gateway))["detail"] == {"reason": "left us"}
    assert (await acme.get(SUPPORT)).status_code == 401
    (deleted,) = (await gateway.admin.get("/deleted-tenants")).json()["data"]
    assert deleted["name"] == "acme"
    undo = datetime.fromisoformat(deleted["purge_at"]) - datetime.fromisoformat(
        deleted["deleted_at"]
    )
    assert undo == timedelta(seconds=gateway.parts.settings.undo_s)
    restored = await gateway.admin.post("/deleted-tenants/acme/restore", json={"reason": "back"})
    assert restored.json()["name"] == "acme"
    assert (await audited(gateway))["detail"] == {"reason": "back"}
    assert (await gateway.admin.get(SUPPORT)).json()["live"] == 1
    assert (await acme.get(SUPPORT)).status_code == 401
    assert (await gateway.admin.get("/tenants/acme/keys")).json() == {"data": []}


async def test_what_cannot_be_restored_is_refused(gateway: AdminGateway) -> None:
    await gateway.tenant("acme")

    async def restore(name: str) -> tuple[int, str | None, str | None]:
        return error(await gateway.admin.post(f"/deleted-tenants/{name}/restore", json={}))

    assert await restore("acme") == (409, "already_exists", "tenant")
    for name in ("nobody", "Not-A-Name", "%00"):
        assert await restore(name) == (404, "not_found", "tenant")


# Keys that end


async def test_an_expired_key_is_refused_like_one_that_never_was(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    (found,) = (await acme.get("/tenants/acme/keys")).json()["data"]
    rotated = await acme.post(f"/tenants/acme/keys/{found['id']}/rotate", json={"overlap_s": 0})
    assert rotated.status_code == 201
    assert rotated.headers["cache-control"] == "no-store"
    expired = await acme.get(SUPPORT)
    async with gateway.client("lpx_" + "0" * 16 + "_" + "A" * 43) as stranger:
        unknown = await stranger.get(SUPPORT)
    assert (expired.status_code, expired.text) == (401, unknown.text)
    async with gateway.client(rotated.json()["key"]) as client:
        listed = (await client.get("/tenants/acme/keys")).json()["data"]
    assert {key["id"] for key in listed} == {found["id"], rotated.json()["id"]}


async def test_during_the_overlap_both_keys_hold(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    (old,) = (await acme.get("/tenants/acme/keys")).json()["data"]
    end = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    path = f"/tenants/acme/keys/{old['id']}/rotate"
    new = (await acme.post(path, json={"overlap_s": 600, "expires_at": end})).json()
    async with gateway.client(new.pop("key")) as client:
        for one in (acme, client):
            assert (await one.get("/tenants/acme")).status_code == 200
    assert (new["name"], new["scopes"], new["expires_at"]) == (old["name"], old["scopes"], end)
    listed = {key["id"]: key for key in (await acme.get("/tenants/acme/keys")).json()["data"]}
    ends = datetime.fromisoformat(listed[old["id"]]["expires_at"])
    assert ends - datetime.fromisoformat(new["created_at"]) == timedelta(seconds=600)
    assert listed[new["id"]]["expires_at"] == end


async def test_a_key_cannot_rotate_one_of_more_scopes(gateway: AdminGateway) -> None:
    await gateway.tenant("acme")
    (strong,) = (await gateway.admin.get("/tenants/acme/keys")).json()["data"]
    async with gateway.client(await gateway.key("acme", "manage")) as client:
        answer = await client.post(f"/tenants/acme/keys/{strong['id']}/rotate", json={})
    assert error(answer) == (403, "missing_scope", "scopes")
    listed = (await gateway.admin.get("/tenants/acme/keys")).json()["data"]
    assert len(listed) == 2
    assert all(key["expires_at"] is None for key in listed)


async def test_another_tenants_key_cannot_be_rotated(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    await gateway.tenant("globex")
    (theirs,) = (await gateway.admin.get("/tenants/globex/keys")).json()["data"]
    answers = [
        await acme.post(f"/tenants/acme/keys/{key}/rotate", json={})
        for key in (theirs["id"], "0" * 16, "no-id")
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert answers[0].text.replace(theirs["id"], "0" * 16) == answers[1].text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"overlap_s": -1}, "overlap_s"),
        ({"overlap_s": 1e3}, "overlap_s"),
        ({"overlap_s": 10**9}, "overlap_s"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"scopes": ["manage"]}, "scopes"),
        ({"reason": "\x00"}, "reason"),
    ],
)
async def test_a_bad_rotation_is_refused_by_field(
    acme: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    (old,) = (await acme.get("/tenants/acme/keys")).json()["data"]
    paths = [f"/tenants/acme/keys/{old['id']}/rotate"]
    if param == "expires_at":
        paths.append("/tenants/acme/keys")
    for path in paths:
        answer = await acme.post(path, json=body)
        assert (answer.status_code, error(answer)[2]) == (400, param)
    assert len((await acme.get("/tenants/acme/keys")).json()["data"]) == 1


async def test_the_last_use_is_shown_before_and_after_it_is_written(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    async def shown() -> list[str | None]:
        listed = (await gateway.admin.get("/tenants/acme/keys")).json()["data"]
        return [key["last_used_at"] for key in listed]

    assert await shown() == [None]
    await acme.get("/tenants/acme")
    (seen,) = await shown()
    assert seen is not None
    await gateway.parts.key_use.write()
    (kept,) = await shown()
    assert kept is not None
    late = datetime.fromisoformat(kept) - datetime.fromisoformat(seen)
    assert abs(late) < timedelta(seconds=1)


async def test_reasons_of_deletions_are_kept(
    gateway: AdminGateway, acme: httpx.AsyncClient
) -> None:
    (key,) = (await acme.get("/tenants/acme/keys")).json()["data"]
    await gateway.push()
    why = {"reason": "not needed"}
    assert (await acme.delete(SUPPORT + "/versions/1", params=why)).status_code == 204
    assert (await audited(gateway))["detail"] == why
    assert (await acme.get(SUPPORT + "/history")).json()["data"][0]["reason"] == "not needed"
    assert (await acme.delete(f"/tenants/acme/keys/{key['id']}", params=why)).status_code == 204
    assert (await audited(gateway))["detail"] == why
