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

# What differs between two answers to the same request: ids and the second they were made in.
OWN_VALUES = re.compile(rb'"(id|item_id|created|created_at)":("[^"]*"|\d+)')
GREEDY: dict[str, Any] = {"temperature": 0, "seed": 7}
QUESTION: list[Any] = [{"role": "user", "content": "How do I change my address?"}]
TOKENS = 16
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": QUESTION,
        "max_tokens": TOKENS,
        "logprobs": True,
        "top_logprobs": 2,
        "return_token_ids": True,
    },
    "/v1/completions": {
        "prompt": "The parcel has",
        "max_tokens": TOKENS,
        "logprobs": 2,
        "return_token_ids": True,
    },
    "/v1/responses": {
        "input": "How do I change my address?",
        "max_output_tokens": TOKENS,
        "top_logprobs": 2,
        "include": ["message.output_text.logprobs"],
    },
    "/v1/messages": {"messages": QUESTION, "max_tokens": TOKENS},
}
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


def body_of(route: str, *, stream: bool) -> dict[str, Any]:
    body = ROUTES[route] | GREEDY
    if not stream:
        return body
    return body | (STREAMED if "completions" in route else {"stream": True})


def without_own_values(content: bytes) -> bytes:
    return OWN_VALUES.sub(rb'"\1":0', content)


def ask_engine(live: LiveSystem, route: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(live.engine_url + route, json=body, timeout=120, trust_env=False)


def engine_name(live: LiveSystem, tenant: str) -> str:
    body = {"model": ADAPTER, "messages": QUESTION, "max_tokens": 1}
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
        if path.rsplit(".", 1)[-1] in ("content", "text", "delta", "arguments"):
            found[path] = found.get(path, "") + (value or "")
        elif isinstance(value, list):
            found[path] = found.get(path, []) + value
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
    through = live.post(route, {"model": ADAPTER} | body_of(route, stream=False), tenant=tenant)
    name = through.json()["model"]
    direct = ask_engine(live, route, {"model": name} | body_of(route, stream=False))
    assert through.status_code == direct.status_code == 200
    assert without_own_values(through.content) == without_own_values(direct.content)
    assert through.headers["content-type"] == direct.headers["content-type"]


@pytest.mark.parametrize("route", ROUTES)
def test_streamed_answers_are_vllms_own(live: LiveSystem, route: str) -> None:
    name = engine_name(live, ACME.name)
    body = body_of(route, stream=True)
    through = live.post(route, {"model": ADAPTER} | body)
    direct = ask_engine(live, route, {"model": name} | body)
    assert through.status_code == direct.status_code == 200
    seen, expected = (without_own_values(answer.content) for answer in (through, direct))
    assert merged(seen) == merged(expected)
    assert seen.splitlines()[0] == expected.splitlines()[0]
    assert seen.endswith(expected[-8:])
    assert through.headers["content-type"] == direct.headers["content-type"]


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions"])
def test_only_the_usage_event_is_missing_where_it_was_not_asked_for(
    live: LiveSystem, route: str
) -> None:
    body = ROUTES[route] | GREEDY
    with_usage = live.post(route, {"model": ADAPTER} | body | STREAMED)
    without = live.post(route, {"model": ADAPTER} | body | {"stream": True})
    assert [event for event in events(without.content) if not event["choices"]] == []
    assert all("usage" not in event for event in events(without.content))
    asked, unasked = (merged(without_own_values(a.content)) for a in (with_usage, without))
    extra = {"usage.prompt_tokens", "usage.total_tokens", "usage.completion_tokens", "choices"}
    assert {path: value for path, value in asked.items() if path not in extra} == unasked
    assert without.content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("route", ROUTES)
def test_streamed_and_plain_say_the_same(live: LiveSystem, route: str) -> None:
    plain = live.post(route, {"model": ADAPTER} | body_of(route, stream=False)).content.decode()
    stream = live.post(route, {"model": ADAPTER} | body_of(route, stream=True))
    texts = [value for path, value in merged(stream.content).items() if is_text(path)]
    assert any(texts)
    for text in texts:
        assert json.dumps(text, ensure_ascii=False) in plain


def is_text(path: str) -> bool:
    return path in ("choice0.delta.content", "choice0.text", "delta", "delta.text")


@pytest.mark.parametrize("route", ROUTES)
def test_two_tenants_adapters_of_one_name_differ(live: LiveSystem, route: str) -> None:
    body = {"model": ADAPTER} | body_of(route, stream=False)
    acme, globex = (live.post(route, body, tenant=tenant.name) for tenant in (ACME, GLOBEX))
    base = live.post(route, body | {"model": live.base})
    contents = {without_own_values(answer.content) for answer in (acme, globex, base)}
    assert len(contents) == 3
    names = {answer.json()["model"].split("@")[0] for answer in (acme, globex)}
    assert names == {f"acme/{ADAPTER}", f"globex/{ADAPTER}"}


def test_each_tenant_hears_its_own_adapter(live: LiveSystem) -> None:
    for tenant in (ACME, GLOBEX):
        body = {"model": ADAPTER, "messages": QUESTION, "max_tokens": TOKENS} | GREEDY
        answer = live.post("/v1/chat/completions", body, tenant=tenant.name).json()
        assert answer["choices"][0]["message"]["content"].startswith(tenant.marker)
