"""The fake engine: the same shapes as the real vLLM, and every fault it can play."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fake_engine import FakeEngine
from tests.live_system import ADAPTER, LiveSystem

CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "Say hello"}]
SHORT = {"max_tokens": 3}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
CALLS = [
    (CHAT, {"messages": USER} | SHORT),
    (CHAT, {"messages": USER, "n": 2, "logprobs": True, "top_logprobs": 1} | SHORT),
    (CHAT, {"messages": USER, "stream": True} | SHORT),
    (CHAT, {"messages": USER, "n": 2} | USAGE | SHORT),
    (CHAT, {"messages": USER, "logprobs": True, "top_logprobs": 1, "stream": True} | SHORT),
    ("/v1/completions", {"prompt": "The"} | SHORT),
    ("/v1/completions", {"prompt": ["The", "A"]} | SHORT),
    ("/v1/completions", {"prompt": "The", "stream": True} | SHORT),
    ("/v1/completions", {"prompt": "The"} | USAGE | SHORT),
    ("/v1/responses", {"input": "hi", "max_output_tokens": 3}),
    ("/v1/responses", {"input": "hi", "max_output_tokens": 3, "stream": True}),
    ("/v1/messages", {"messages": USER} | SHORT),
    ("/v1/messages", {"messages": USER, "stream": True} | SHORT),
    ("/v1/messages/count_tokens", {"messages": USER}),
]
REFUSALS = [
    (CHAT, {"messages": USER, "max_tokens": 0}),
    (CHAT, {"messages": USER, "temperature": 9}),
    (CHAT, {"messages": USER, "n": 0}),
    (CHAT, {"messages": USER, "model": "no/such@1:0"}),
    (CHAT, {}),
    ("/v1/completions", {}),
    ("/v1/completions", {"prompt": "The", "model": "nope"}),
    ("/v1/completions", {"prompt": "word " * 20_000}),
    ("/v1/responses", {"input": "The", "model": "nope"}),
    ("/v1/messages", {"messages": USER, "max_tokens": 3, "model": "nope"}),
    ("/v1/messages", {"messages": USER}),
    ("/v1/messages", {"messages": USER, "max_tokens": 3, "temperature": 9}),
    ("/v1/messages/count_tokens", {"messages": USER, "model": "nope"}),
    ("/v1/load_lora_adapter", {"lora_name": "t/none@1:0", "lora_path": "/no-such-folder"}),
    ("/v1/load_lora_adapter", {"lora_name": "", "lora_path": "/no-such-folder"}),
    ("/v1/load_lora_adapter", {"lora_name": "x"}),
    ("/v1/unload_lora_adapter", {"lora_name": "t/none@1:0"}),
    ("/v1/unload_lora_adapter", {"lora_name": ""}),
    ("/v1/embeddings", {"input": "x"}),
]


def post(url: str, route: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(url + route, json=body, headers=headers, timeout=60, trust_env=False)


def shape(value: Any) -> Any:
    """Names in their order and types, without the values."""
    if isinstance(value, dict):
        return [(name, shape(inner)) for name, inner in value.items()]
    if isinstance(value, list):
        return ["list", *(shape(inner) for inner in value[:1])]
    return type(value).__name__


def events(text: str) -> list[Any]:
    """A stream's events as (name, shape), each where it first comes."""
    found: list[Any] = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        data = lines.get("data")
        if data is not None:
            parsed = data if data == "[DONE]" else shape(json.loads(data))
            event = (lines.get("event"), parsed)
            found += [] if event in found else [event]
    return found


@pytest.fixture
def twin(live: LiveSystem) -> Iterator[FakeEngine]:
    """A fake with the real one's names and limits."""
    models = httpx.get(f"{live.engine_url}/v1/models", trust_env=False).json()["data"]
    length = next(model["max_model_len"] for model in models if model["id"] == live.base)
    engine = FakeEngine.start("--served-model-name", live.base, "--max-model-len", str(length))
    yield engine
    engine.stop()


@pytest.mark.vllm
@pytest.mark.parametrize(("route", "body"), CALLS)
def test_answers_have_vllms_shape(
    live: LiveSystem, twin: FakeEngine, route: str, body: dict[str, Any]
) -> None:
    asked = body | {"model": live.base}
    real = post(live.engine_url, route, asked, **{"X-Request-Id": "r1"})
    fake = post(twin.url, route, asked, **{"X-Request-Id": "r1"})
    assert fake.status_code == real.status_code == 200
    assert fake.headers["content-type"] == real.headers["content-type"]
    if body.get("stream"):
        assert events(fake.text) == events(real.text)
    else:
        assert shape(fake.json()) == shape(real.json())
    if route != "/v1/responses" and "count" not in route:
        assert ('"id":"chatcmpl-r1"' in fake.text) == ('"id":"chatcmpl-r1"' in real.text)


@pytest.mark.vllm
@pytest.mark.parametrize(("route", "body"), REFUSALS)
def test_refusals_are_vllms_own(
    live: LiveSystem, twin: FakeEngine, route: str, body: dict[str, Any]
) -> None:
    asked = {"model": live.base} | body
    real, fake = post(live.engine_url, route, asked), post(twin.url, route, asked)
    assert fake.status_code == real.status_code >= 400
    assert fake.json() == real.json()


@pytest.mark.vllm
@pytest.mark.parametrize("path", ["/health", "/version", "/nope", CHAT])
def test_reads_are_vllms_own(live: LiveSystem, twin: FakeEngine, path: str) -> None:
    real = httpx.get(live.engine_url + path, trust_env=False)
    fake = httpx.get(twin.url + path, trust_env=False)
    assert (fake.status_code, fake.content) == (real.status_code, real.content)


@pytest.mark.vllm
def test_an_adapter_is_loaded_listed_and_refused_twice_as_in_vllm(
    live: LiveSystem, twin: FakeEngine
) -> None:
    live.post(CHAT, {"model": ADAPTER, "messages": USER} | SHORT).raise_for_status()
    models = httpx.get(f"{live.engine_url}/v1/models", trust_env=False).json()
    card = next(model for model in models["data"] if model["parent"] is not None)
    load = {"lora_name": card["id"], "lora_path": card["root"]}
    assert post(twin.url, "/v1/load_lora_adapter", load).text == (
        f"Success: LoRA adapter '{card['id']}' added successfully."
    )
    fake_models = httpx.get(f"{twin.url}/v1/models", trust_env=False).json()
    assert shape(fake_models["data"][1]) == shape(card)
    assert fake_models["data"][1]["root"] == card["root"]
    real, fake = (post(url, "/v1/load_lora_adapter", load) for url in (live.engine_url, twin.url))
    assert (fake.status_code, fake.json()) == (real.status_code, real.json())
    assert fake.status_code == 400


@pytest.mark.vllm
def test_metrics_have_vllms_names_and_labels(live: LiveSystem, twin: FakeEngine) -> None:
    def series(url: str) -> set[str]:
        answer = httpx.get(f"{url}/metrics", trust_env=False)
        assert answer.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
        lines = answer.text.splitlines()
        return {line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")}

    assert series(twin.url) <= series(live.engine_url)
    assert any(name.startswith("vllm:") for name in series(twin.url))


@pytest.fixture
def adapter(fake_engine: FakeEngine, tmp_path: Path) -> str:
    """The name of an adapter that the fake has loaded."""
    (tmp_path / "adapter_config.json").write_text("{}")
    load = {"lora_name": "acme/support@1:0123456789ab", "lora_path": str(tmp_path)}
    post(fake_engine.url, "/v1/load_lora_adapter", load).raise_for_status()
    return load["lora_name"]


def ask(engine: FakeEngine, model: str = "base", **fields: Any) -> httpx.Response:
    return post(engine.url, CHAT, {"model": model, "messages": USER} | fields)


def said(answer: httpx.Response) -> str:
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def test_every_answer_names_who_spoke(fake_engine: FakeEngine, adapter: str) -> None:
    assert said(ask(fake_engine, adapter)).startswith(f"«{adapter}» token")
    assert said(ask(fake_engine)).startswith("«base» token")
    assert ask(fake_engine, "acme/support@2:0123456789ab").status_code == 404


def test_max_tokens_cuts_and_ignore_eos_fills(fake_engine: FakeEngine) -> None:
    cut, full = ask(fake_engine, max_tokens=3), ask(fake_engine, max_tokens=20, ignore_eos=True)
    assert cut.json()["choices"][0]["finish_reason"] == "length"
    assert cut.json()["usage"]["completion_tokens"] == 3
    assert full.json()["usage"]["completion_tokens"] == 20
    assert ask(fake_engine).json()["choices"][0]["finish_reason"] == "stop"


def test_it_records_what_it_was_sent(fake_engine: FakeEngine) -> None:
    post(fake_engine.url, CHAT, {"messages": USER, "cache_salt": "ab"}, **{"X-Test": "1"})
    (call,) = fake_engine.calls(CHAT)
    assert call["body"]["cache_salt"] == "ab"
    assert call["headers"]["x-test"] == "1"
    assert (call["outcome"], call["status"]) == ("answered", 200)
    assert call["started_s"] <= call["ended_s"] <= time.monotonic()


def test_a_client_that_leaves_is_seen_at_once(fake_engine: FakeEngine) -> None:
    fake_engine.control(hold_after_tokens=2)
    body = {"messages": USER, "stream": True}
    with httpx.stream("POST", fake_engine.url + CHAT, json=body, trust_env=False) as stream:
        chunks = stream.iter_bytes()
        next(chunks)
        fake_engine.wait_for(lambda state: state["calls"][-1]["tokens_sent"] == 2)
        assert fake_engine.state()["open"] == 1
    left_s = time.monotonic()
    state = fake_engine.wait_for(lambda state: state["open"] == 0)
    assert state["calls"][-1]["outcome"] == "client_closed"
    assert state["calls"][-1]["ended_s"] - left_s < 1


def test_a_load_stalls_every_stream(fake_engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    load = {"lora_name": "slow", "lora_path": str(tmp_path)}
    fake_engine.control(hold_loads=True)
    thread = threading.Thread(target=post, args=(fake_engine.url, "/v1/load_lora_adapter", load))
    thread.start()
    fake_engine.wait_for(lambda state: len(state["loads"]) == 1)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(fake_engine.url + CHAT, json={"messages": USER}, timeout=0.2, trust_env=False)
    fake_engine.control(hold_loads=False)
    thread.join()
    assert said(ask(fake_engine, "slow")).startswith("«slow»")
    assert fake_engine.state()["loads"][0]["status"] == 200


def test_a_load_can_fail(fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine.control(load_error="rank 64 is greater than max_lora_rank 16")
    load = {"lora_name": "bad", "lora_path": str(tmp_path)}
    answer = post(fake_engine.url, "/v1/load_lora_adapter", load)
    assert answer.status_code == 500
    assert answer.json()["error"]["message"].startswith("rank 64")
    assert ask(fake_engine, "bad").status_code == 404


def test_more_adapters_than_slots_wait_their_turn(tmp_path: Path) -> None:
    engine = FakeEngine.start("--max-loras", "1")
    try:
        (tmp_path / "adapter_config.json").write_text("{}")
        for name in ("a", "b"):
            load = {"lora_name": name, "lora_path": str(tmp_path)}
            post(engine.url, "/v1/load_lora_adapter", load).raise_for_status()
        engine.control(hold_after_tokens=1)
        threads = [threading.Thread(target=ask, args=(engine, name)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        engine.wait_for(lambda state: state["running"] == 1 and state["waiting"] == 1)
        engine.control(hold_after_tokens=None)
        for thread in threads:
            thread.join()
        assert {call["outcome"] for call in engine.calls(CHAT)} == {"answered"}
    finally:
        engine.stop()


@pytest.mark.parametrize("stream", [True, False])
def test_it_can_die_on_the_way(fake_engine: FakeEngine, stream: bool) -> None:
    fake_engine.control(die_after_tokens=2)
    with pytest.raises(httpx.RemoteProtocolError):
        ask(fake_engine, stream=stream)
    assert fake_engine.calls(CHAT)[-1]["outcome"] == "dropped"


def test_a_stream_can_end_with_an_error_event(fake_engine: FakeEngine) -> None:
    fake_engine.control(error_after_tokens=2)
    lines = ask(fake_engine, stream=True).text.strip().split("\n\n")
    assert json.loads(lines[-2].removeprefix("data: "))["error"]["code"] == 500
    assert ask(fake_engine).status_code == 500


def test_counted_faults_pass(fake_engine: FakeEngine) -> None:
    fake_engine.control(status=500, faulty_calls=2)
    assert [ask(fake_engine).status_code for _ in range(3)] == [500, 500, 200]


def test_garbage(fake_engine: FakeEngine) -> None:
    fake_engine.control(garbage="body")
    assert ask(fake_engine).headers["content-type"] == "text/html"
    fake_engine.control(garbage="http")
    with pytest.raises(httpx.RemoteProtocolError):
        ask(fake_engine)


def test_a_frozen_engine_goes_on_where_it_stopped(fake_engine: FakeEngine) -> None:
    fake_engine.control(frozen=True)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{fake_engine.url}/health", timeout=0.2, trust_env=False)
    fake_engine.control(frozen=False)
    assert httpx.get(f"{fake_engine.url}/health", trust_env=False).status_code == 200


def test_health_can_fail_or_fall_silent(fake_engine: FakeEngine) -> None:
    fake_engine.control(health="dead")
    assert httpx.get(f"{fake_engine.url}/health", trust_env=False).status_code == 503
    fake_engine.control(health="silent")
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{fake_engine.url}/health", timeout=0.2, trust_env=False)
    assert ask(fake_engine).status_code == 200


def test_without_name_validation_an_unknown_model_is_the_base(fake_engine: FakeEngine) -> None:
    fake_engine.control(skip_name_validation=True)
    assert said(ask(fake_engine, "no/such@1:0")).startswith("«base»")


def test_a_restart_forgets_adapters_and_breaks_streams(
    fake_engine: FakeEngine, adapter: str
) -> None:
    before = httpx.get(f"{fake_engine.url}/metrics", trust_env=False).text.splitlines()[2]
    fake_engine.control(hold_after_tokens=1)
    body = {"model": adapter, "messages": USER, "stream": True}
    with httpx.stream("POST", fake_engine.url + CHAT, json=body, trust_env=False) as stream:
        chunks = stream.iter_bytes()
        next(chunks)
        fake_engine.control(restart=True, hold_after_tokens=None)
        with pytest.raises(httpx.TransportError):
            list(chunks)
    after = httpx.get(f"{fake_engine.url}/metrics", trust_env=False).text.splitlines()[2]
    assert before.split()[0] == after.split()[0] == "process_start_time_seconds"
    assert float(before.split()[1]) < float(after.split()[1])
    assert ask(fake_engine, adapter).status_code == 404


def test_a_wrong_control_is_named(fake_engine: FakeEngine) -> None:
    for change, said_of in ({"tokns": 1}, "tokns: no such"), ({"tokens": "x"}, "tokens: must be"):
        answer = post(fake_engine.url, "/_fake/control", change)
        assert answer.status_code == 400
        assert said_of in answer.json()["error"]
