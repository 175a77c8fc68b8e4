"""A tenant cannot list, call, or tell apart from missing what belongs to another."""

from typing import Any

import httpx
import pytest

from loraplex.demo_data import GLOBEX
from tests.live_system import ADAPTER, LiveSystem, push

pytestmark = pytest.mark.vllm

ASK: list[Any] = [{"role": "user", "content": "hi"}]
CALLS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": ASK, "max_tokens": 2},
    "/v1/completions": {"prompt": "hi", "max_tokens": 2},
    "/v1/responses": {"input": "hi", "max_output_tokens": 2},
    "/v1/messages": {"messages": ASK, "max_tokens": 2},
    "/v1/messages/count_tokens": {"messages": ASK},
}
SECRET = "private"


@pytest.fixture(scope="module")
def secret(live: LiveSystem) -> str:
    """The engine name of an adapter that only globex has; it answers, so it is on the engine."""
    push(live, GLOBEX.name, SECRET, GLOBEX.folder)
    body = {"model": SECRET, "messages": ASK, "max_tokens": 1}
    answer = live.post("/v1/chat/completions", body, tenant=GLOBEX.name)
    assert answer.status_code == 200
    name: str = answer.json()["model"]
    return name


def twins(secret: str) -> list[tuple[str, str]]:
    """Pairs of a name that globex has and one that nobody has."""
    digest = secret.rsplit(":", 1)[1]
    return [
        (SECRET, "nothing"),
        (f"{SECRET}@1", "nothing@1"),
        (f"{SECRET}@1:{digest}", f"nothing@1:{digest}"),
        (f"globex/{SECRET}", "globex/nothing"),
        (f"globex/{SECRET}@1", "globex/nothing@1"),
        (f"globex/{SECRET}@1", f"globex/{SECRET}@9"),
        (secret, secret.replace(SECRET, "nothing")),
        (secret, "nobody/nothing@1:0123456789ab"),
        (f"globex/{ADAPTER}", "nobody/nothing"),
        (f"globex/{ADAPTER}", "globex/nope"),
    ]


def fingerprint(answer: httpx.Response, name: str) -> tuple[int, str, list[str]]:
    """Everything of an answer but its request's id and the name that was asked for."""
    body = answer.text.replace(answer.headers["x-request-id"], "ID").replace(name, "NAME")
    return answer.status_code, body, sorted(answer.headers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", CALLS)
def test_another_tenants_model_is_like_a_missing_one(
    live: LiveSystem, secret: str, route: str, stream: bool
) -> None:
    for theirs, nobodys in twins(secret):
        body = CALLS[route] | ({"stream": True} if stream and "count" not in route else {})
        seen = fingerprint(live.post(route, body | {"model": theirs}), theirs)
        missing = fingerprint(live.post(route, body | {"model": nobodys}), nobodys)
        assert seen == missing
        assert seen[0] == 404


def test_another_tenants_model_cannot_be_retrieved(live: LiveSystem, secret: str) -> None:
    def retrieve(name: str) -> tuple[int, str, list[str]]:
        headers = {"authorization": f"Bearer {live.keys['acme']}"}
        url = f"{live.openai_url}/models/{name}"
        return fingerprint(httpx.get(url, headers=headers, trust_env=False), name)

    for theirs, nobodys in twins(secret):
        assert retrieve(theirs) == retrieve(nobodys)
        assert retrieve(theirs)[0] == 404


def test_another_tenants_models_are_not_listed(live: LiveSystem, secret: str) -> None:
    listings = {}
    for tenant, key in live.keys.items():
        headers = {"authorization": f"Bearer {key}"}
        url = f"{live.openai_url}/models"
        listings[tenant] = httpx.get(url, headers=headers, trust_env=False).text
    assert SECRET in listings["globex"]
    assert SECRET not in listings["acme"]
    assert "globex" not in listings["acme"]
    assert str(live.data_dir) not in listings["globex"]


def test_another_tenants_completion_takes_no_feedback(live: LiveSystem, secret: str) -> None:
    body = {"model": SECRET, "messages": ASK, "max_tokens": 1}
    theirs = live.post("/v1/chat/completions", body, tenant=GLOBEX.name).json()["id"]
    nobodys = "chatcmpl-" + "0" * (len(theirs) - len("chatcmpl-"))

    def rate(completion_id: str, tenant: str) -> httpx.Response:
        return live.post(
            "/v1/feedback", {"completion_id": completion_id, "score": 1}, tenant=tenant
        )

    assert rate(theirs, GLOBEX.name).is_success
    seen, missing = (fingerprint(rate(name, "acme"), name) for name in (theirs, nobodys))
    assert seen == missing
    assert seen[0] == 404


ADMIN_CALLS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("DELETE", "", None),
    ("PATCH", "", {"policy": {"allow_base": False}}),
    ("GET", "/keys", None),
    ("POST", "/keys", {"name": "x", "scopes": ["inference"]}),
    ("DELETE", "/keys/0123456789abcdef", None),
    ("POST", "/keys/0123456789abcdef/rotate", {}),
    ("GET", "/adapters", None),
    ("GET", f"/adapters/{SECRET}", None),
    ("GET", f"/adapters/{SECRET}/versions", None),
    ("POST", f"/adapters/{SECRET}/versions", {"source": "hf://x/y"}),
    ("GET", f"/adapters/{SECRET}/versions/1", None),
    ("GET", f"/adapters/{SECRET}/versions/1/card", None),
    ("POST", f"/adapters/{SECRET}/versions/1/evaluation", {"verdict": "passed"}),
    ("DELETE", f"/adapters/{SECRET}/versions/1", None),
    ("GET", f"/adapters/{SECRET}/history", None),
    ("POST", f"/adapters/{SECRET}/promote", {"version": 1}),
    ("POST", f"/adapters/{SECRET}/rollback", {}),
]


@pytest.mark.parametrize(("method", "path", "body"), ADMIN_CALLS)
def test_another_tenants_admin_routes_are_like_a_missing_tenants(
    live: LiveSystem, secret: str, method: str, path: str, body: Any
) -> None:
    def call(tenant: str) -> tuple[int, str, list[str]]:
        headers = {"authorization": f"Bearer {live.manage_keys['acme']}"}
        url = f"{live.gateway_url}/admin/v1/tenants/{tenant}{path}"
        answer = httpx.request(method, url, headers=headers, json=body, trust_env=False)
        return fingerprint(answer, tenant)

    assert call("globex") == call("nobody")
    # What only the operator may do is refused as such, whoever's tenant it is.
    assert call("globex")[0] == (403 if path == "" and method != "GET" else 404)


def test_a_manage_key_reaches_its_own_tenant_alone(live: LiveSystem, secret: str) -> None:
    key = live.manage_keys["acme"]
    tenants = live.admin("GET", "/tenants", key=key)["data"]
    assert [tenant["name"] for tenant in tenants] == ["acme"]
    adapters = live.admin("GET", "/tenants/acme/adapters", key=key)["data"]
    names = {adapter["adapter"] for adapter in adapters}
    assert ADAPTER in names
    assert SECRET not in names
    for method, path in (("GET", "/engines"), ("GET", "/audit"), ("POST", "/tenants")):
        headers = {"authorization": f"Bearer {key}"}
        url = f"{live.gateway_url}/admin/v1{path}"
        answer = httpx.request(method, url, headers=headers, json={"name": "x"}, trust_env=False)
        assert answer.status_code == 403


def test_an_inference_key_manages_nothing(live: LiveSystem) -> None:
    headers = {"authorization": f"Bearer {live.keys['acme']}"}
    for path in ("/tenants", "/tenants/acme/adapters", "/tenants/acme/keys"):
        url = f"{live.gateway_url}/admin/v1{path}"
        assert httpx.get(url, headers=headers, trust_env=False).status_code == 403


def test_the_admin_key_is_no_tenant(live: LiveSystem) -> None:
    headers = {"authorization": f"Bearer {live.admin_key}"}
    body = {"model": ADAPTER, "messages": ASK, "max_tokens": 1}
    url = f"{live.openai_url}/chat/completions"
    assert httpx.post(url, headers=headers, json=body, trust_env=False).status_code == 403
