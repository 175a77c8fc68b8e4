"""From a key to its caller, and what a key may not do."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from adapters_registry.tenants import NewKey, new_key
from adapters_registry.types import Key, Scope, Snapshot
from gateway import error_handlers
from gateway.auth import Caller, admin_caller, authenticate, inference_caller, tenant_manager
from gateway.errors import Unauthorized
from gateway.key_use import KeyUse
from tests.snapshots_for_tests import AT, snapshot

ADMIN_KEY = "an admin key of any form"
ADMIN_SHA256 = hashlib.sha256(ADMIN_KEY.encode()).digest()
BOTH = frozenset(Scope)


@dataclass
class Holder:
    current: Snapshot


@dataclass
class StandInParts:
    """All that authentication may use: no registry is in reach."""

    snapshots: Holder
    admin_key_sha256: bytes = ADMIN_SHA256
    key_use: KeyUse = field(default_factory=lambda: KeyUse(lambda used: None))


def stored(key: NewKey, tenant: str, scopes: frozenset[Scope]) -> Key:
    return Key(key.id, tenant, "a key", scopes, key.secret_sha256, AT)


def with_keys(*keys: Key, tenants: tuple[str, ...] = ("acme", "globex")) -> Snapshot:
    return Snapshot(1, snapshot(tenants=tenants).tenants, {key.id: key for key in keys})


ACME, ACME_INFERENCE, ACME_MANAGE = new_key(), new_key(), new_key()
SNAPSHOT = with_keys(
    stored(ACME, "acme", BOTH),
    stored(ACME_INFERENCE, "acme", frozenset({Scope.INFERENCE})),
    stored(ACME_MANAGE, "acme", frozenset({Scope.MANAGE})),
)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.state.parts = StandInParts(Holder(SNAPSHOT))
    error_handlers.install(app)

    @app.get("/v1/who")
    async def who(caller: Annotated[Caller, Depends(inference_caller)]) -> dict[str, Any]:
        return {"tenant": caller.tenant, "actor": caller.actor}

    @app.get("/admin")
    async def admin(caller: Annotated[Caller, Depends(admin_caller)]) -> dict[str, str]:
        return {"actor": caller.actor}

    @app.get("/tenants/{t}")
    async def managed(caller: Annotated[Caller, Depends(tenant_manager)]) -> dict[str, str]:
        return {"actor": caller.actor}

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
        yield client


def bearer(key: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", f"Bearer {ACME.text}")],
        [("authorization", f"bearer  {ACME.text} ")],
        [("x-api-key", ACME.text)],
        [("authorization", f"Bearer {ACME.text}"), ("x-api-key", ACME.text)],
        [("authorization", "Basic dTpw"), ("x-api-key", ACME.text)],
    ],
)
async def test_a_key_is_taken_from_either_header(
    http: httpx.AsyncClient, headers: list[tuple[str, str]]
) -> None:
    answer = await http.get("/v1/who", headers=headers)
    assert answer.json() == {"tenant": "acme", "actor": f"key:{ACME.id}"}


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Basic dTpw")],
        [("authorization", "Bearer")],
        [("x-api-key", " ")],
        [("authorization", f"Bearer {ACME.text}"), ("x-api-key", ACME_INFERENCE.text)],
        [("x-api-key", ACME.text), ("x-api-key", ACME_INFERENCE.text)],
    ],
    ids=["none", "basic", "empty bearer", "blank", "two in two headers", "two in one header"],
)
async def test_no_key_and_two_keys_are_refused(
    http: httpx.AsyncClient, headers: list[tuple[str, str]]
) -> None:
    answer = await http.get("/v1/who", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert ACME.text not in answer.text


async def test_unknown_id_wrong_secret_and_nonsense_read_the_same(http: httpx.AsyncClient) -> None:
    known_id = f"lpx_{ACME.id}_{new_key().secret}"
    tried = [known_id, new_key().text, "lpx_", "x" * 5000, "ключ"]
    answers = [await http.get("/v1/who", headers={b"x-api-key": key.encode()}) for key in tried]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert not any(key in answer.text for key, answer in zip(tried, answers, strict=True))


def test_a_revoked_key_is_unknown() -> None:
    with pytest.raises(Unauthorized):
        authenticate(ACME.text, ADMIN_SHA256, with_keys())


def test_a_key_of_a_deleted_tenant_is_unknown() -> None:
    orphan = with_keys(stored(ACME, "acme", BOTH), tenants=("globex",))
    with pytest.raises(Unauthorized):
        authenticate(ACME.text, ADMIN_SHA256, orphan)


def test_a_key_is_taken_until_its_end_and_then_is_unknown() -> None:
    def caller(end: datetime) -> Caller:
        key = replace(stored(ACME, "acme", BOTH), expires_at=end)
        return authenticate(ACME.text, ADMIN_SHA256, with_keys(key))

    now = datetime.now(UTC)
    assert caller(now + timedelta(hours=1)).tenant == "acme"
    for end in (now, now - timedelta(days=1)):
        with pytest.raises(Unauthorized) as expired:
            caller(end)
        with pytest.raises(Unauthorized) as unknown:
            authenticate(ACME.text, ADMIN_SHA256, with_keys())
        assert expired.value.message == unknown.value.message


def test_the_stand_in_for_a_missing_key_opens_nothing() -> None:
    with pytest.raises(Unauthorized):
        authenticate("", ADMIN_SHA256, with_keys())


async def test_the_admin_key_calls_no_models_and_says_what_does(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/who", headers=bearer(ADMIN_KEY))
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "admin_key_is_no_tenant"
    assert "/admin/v1/tenants" in answer.json()["error"]["message"]
    assert ADMIN_KEY not in answer.text


async def test_the_admin_key_opens_admin_routes(http: httpx.AsyncClient) -> None:
    assert (await http.get("/admin", headers=bearer(ADMIN_KEY))).json() == {"actor": "admin"}
    answer = await http.get("/tenants/globex", headers=bearer(ADMIN_KEY))
    assert answer.json() == {"actor": "admin"}


async def test_a_tenants_key_is_no_admin_key(http: httpx.AsyncClient) -> None:
    answer = await http.get("/admin", headers=bearer(ACME.text))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "admin_key_needed")


async def test_each_scope_opens_its_own_routes_only(http: httpx.AsyncClient) -> None:
    async def status(path: str, key: NewKey) -> int:
        return (await http.get(path, headers=bearer(key.text))).status_code

    assert await status("/v1/who", ACME_INFERENCE) == 200
    assert await status("/v1/who", ACME_MANAGE) == 403
    assert await status("/tenants/acme", ACME_INFERENCE) == 403
    assert await status("/tenants/acme", ACME_MANAGE) == 200


@pytest.mark.parametrize("key", [ACME, ACME_INFERENCE, ACME_MANAGE])
async def test_another_tenant_looks_missing(http: httpx.AsyncClient, key: NewKey) -> None:
    there = await http.get("/tenants/globex", headers=bearer(key.text))
    missing = await http.get("/tenants/nobody", headers=bearer(key.text))
    assert there.status_code == missing.status_code == 404
    assert there.text.replace("globex", "nobody") == missing.text
    assert there.headers.items() - missing.headers.items() == set()


@pytest.mark.parametrize("name", ["acme%00", "ACME", "..%2facme", "acme%0a", "%ff"])
async def test_what_cannot_be_a_tenants_name_is_a_missing_tenant(
    http: httpx.AsyncClient, name: str
) -> None:
    for key in (ACME.text, ADMIN_KEY):
        answer = await http.get(f"/tenants/{name}", headers=bearer(key))
        assert answer.status_code == 404


@pytest.mark.parametrize("host", ["gateway.test/livez?", "x/../livez#", "a b", "@:0"])
async def test_the_host_header_opens_nothing(http: httpx.AsyncClient, host: str) -> None:
    assert (await http.get("/v1/who", headers={"host": host})).status_code == 401


async def test_the_use_of_a_good_key_alone_is_noted(http: httpx.AsyncClient) -> None:
    app = http._transport.app  # type: ignore[attr-defined]
    noted = app.state.parts.key_use.noted
    await http.get("/v1/who", headers=bearer(new_key().text))
    await http.get("/v1/who", headers=bearer(f"lpx_{ACME.id}_{new_key().secret}"))
    assert noted == {}
    await http.get("/v1/who", headers=bearer(ACME.text))
    await http.get("/tenants/acme", headers=bearer(ACME_INFERENCE.text))
    assert set(noted) == {ACME.id, ACME_INFERENCE.id}
