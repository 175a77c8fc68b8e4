"""Greedy answers through the gateway are vLLM's own, byte for byte, for the same adapter."""

import itertools
import json
import re
from typing import Any

import httpx
import pytest

from loraplex.demo_data import ACME, GLOBEX
from tests.live_system import ADAPTER, LiveSystem

pytestmark = pytest.mark.vllm

# An engine computes a prompt from its prefix cache in other pieces than a new one, and the last
# digits of log-probabilities show it. So both sides are asked what neither was asked before.
NUMBERS = itertools.count(1)

# What differs between two answers to the same request: ids and the second they were made in.
OWN_VALUES = re.compile(rb'"(id|item_id|created|created_at)":("[^"]*"|\d+)')
GREEDY: dict[str, Any] = {"temperature": 0, "seed": 7}
TOKENS = 10
TEXTS = ("choice0.delta.content", "choice0.text", "delta", "delta.text")
"""Where the four routes' streams carry text."""
ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")


def new_body(route: str, *, stream: bool = False, usage: bool = True) -> dict[str, Any]:
    """A request that was never made before."""
    question = f"Order {next(NUMBERS)}: how do I change my address?"
    messages = [{"role": "user", "content": question}]
    fields: dict[str, Any] = {"max_tokens": TOKENS, "messages": messages}
    if route == "/v1/chat/completions":
        fields |= {"logprobs": True, "top_logprobs": 2, "return_token_ids": True}
    elif route == "/v1/completions":
        fields = {"max_tokens": TOKENS, "logprobs": 2, "return_token_ids": True}
        fields["prompt"] = f"Order {next(NUMBERS)} was sent because"
    elif route == "/v1/responses":
        fields = {"max_output_tokens": TOKENS, "input": question, "top_logprobs": 2}
        fields["include"] = ["message.output_text.logprobs"]
    if stream and usage and "completions" in route:
        fields["stream_options"] = {"include_usage": True}
    return {"model": ADAPTER, "stream": stream} | GREEDY | fields


def without_own_values(content: bytes) -> bytes:
    return OWN_VALUES.sub(rb'"\1":0', content)


def ask_engine(live: LiveSystem, route: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(live.engine_url + route, json=body, timeout=120, trust_env=False)


def engine_name(live: LiveSystem, tenant: str) -> str:
    body = {"model": ADAPTER, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    name: str = live.post("/v1/chat/completions", body, tenant=tenant).json()["model"]
    return name


def events(content: bytes) -> list[Any]:
    lines = [line for line in content.decode().splitlines() if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def merged(content: bytes) -> dict[str, Any]:
    """A stream's whole content, however vLLM cut it into events on a busy machine.

    Strings that come in pieces are joined, lists are chained, of other values the last counts.
    """
    found: dict[str, Any] = {}
    for path, value in itertools.chain.from_iterable(map(leaves, events(content))):
        if isinstance(value, list):
            found[path] = found.get(path, []) + value
        elif path.rsplit(".", 1)[-1] in ("content", "text", "delta"):
            found[path] = found.get(path, "") + (value or "")
        elif path != "sequence_number":
            found[path] = value
    return found


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        inner = ((f"{path}.{name}" if path else name, item) for name, item in value.items())
        return [leaf for name, item in inner for leaf in leaves(item, name)]
    if path == "choices" and value:
        return [leaf for item in value for leaf in leaves(item, f"choice{item['index']}")]
    return [(path, value)]


@pytest.mark.parametrize("tenant", [ACME.name, GLOBEX.name])
@pytest.mark.parametrize("route", ROUTES)
def test_plain_answers_are_vllms_bytes(live: LiveSystem, route: str, tenant: str) -> None:
    body = new_body(route)
    through = live.post(route, body, tenant=tenant)
    direct = ask_engine(live, route, body | {"model": through.json()["model"]})
    assert through.status_code == direct.status_code == 200
    assert without_own_values(through.content) == without_own_values(direct.content)
    assert through.headers["content-type"] == direct.headers["content-type"]


@pytest.mark.parametrize("route", ROUTES)
def test_streamed_answers_are_vllms_own(live: LiveSystem, route: str) -> None:
    name, body = engine_name(live, ACME.name), new_body(route, stream=True)
    through = live.post(route, body)
    direct = ask_engine(live, route, body | {"model": name})
    assert through.status_code == direct.status_code == 200
    seen, expected = (without_own_values(answer.content) for answer in (through, direct))
    assert merged(seen) == merged(expected)
    assert seen.splitlines()[0] == expected.splitlines()[0]
    assert seen[-8:] == expected[-8:]
    assert through.headers["content-type"] == direct.headers["content-type"]


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions"])
def test_only_the_usage_event_is_missing_where_it_was_not_asked_for(
    live: LiveSystem, route: str
) -> None:
    name, body = engine_name(live, ACME.name), new_body(route, stream=True, usage=False)
    through = live.post(route, body)
    asked = body | {"model": name, "stream_options": {"include_usage": True}}
    direct = ask_engine(live, route, asked)
    assert all(event["choices"] and "usage" not in event for event in events(through.content))
    seen, expected = (merged(without_own_values(a.content)) for a in (through, direct))
    usage = {path for path in expected if path.startswith("usage.")} | {"choices"}
    assert len(usage) == 4
    # The fingerprint rides on vLLM's last event, which is the one of the usage.
    usage.add("system_fingerprint")
    assert seen == {path: value for path, value in expected.items() if path not in usage}
    assert through.content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("route", ROUTES)
def test_streamed_and_plain_say_the_same(live: LiveSystem, route: str) -> None:
    body = new_body(route)
    plain = live.post(route, body).content.decode()
    stream = live.post(route, body | {"stream": True})
    texts = [value for path, value in merged(stream.content).items() if path in TEXTS]
    assert any(texts)
    for text in texts:
        assert json.dumps(text, ensure_ascii=False) in plain


@pytest.mark.parametrize("route", ROUTES)
def test_two_tenants_adapters_of_one_name_differ(live: LiveSystem, route: str) -> None:
    body = new_body(route)
    acme, globex = (live.post(route, body, tenant=tenant.name) for tenant in (ACME, GLOBEX))
    base = live.post(route, body | {"model": live.base})
    names = [answer.json()["model"] for answer in (acme, globex, base)]
    assert [name.split("@")[0] for name in names] == [
        f"acme/{ADAPTER}",
        f"globex/{ADAPTER}",
        live.base,
    ]
    said = {
        without_own_values(answer.content).replace(name.encode(), b"")
        for answer, name in zip((acme, globex, base), names, strict=True)
    }
    assert len(said) == 3


def test_each_tenant_hears_its_own_adapter(live: LiveSystem) -> None:
    for tenant in (ACME, GLOBEX):
        body = new_body("/v1/chat/completions")
        answer = live.post("/v1/chat/completions", body, tenant=tenant.name).json()
        assert answer["choices"][0]["message"]["content"].startswith(tenant.marker)
