"""The unmodified `anthropic` client against the whole system on the real vLLM."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.live_system import ADAPTER, LiveSystem

pytestmark = pytest.mark.vllm

ASK: list[Any] = [{"role": "user", "content": "How do I change my address?"}]


@pytest.fixture(scope="module")
def client(live: LiveSystem) -> Iterator[Anthropic]:
    """Acme's client; it sends the key as `x-api-key`."""
    key = live.keys["acme"]
    with Anthropic(base_url=live.gateway_url, api_key=key, max_retries=0) as client:
        yield client


def ask(client: Anthropic, **fields: Any) -> Any:
    asked: dict[str, Any] = {"model": ADAPTER, "messages": ASK, "max_tokens": 8}
    return client.messages.create(**asked | greedy(fields))


def greedy(fields: dict[str, Any]) -> dict[str, Any]:
    """With temperature 0 unless the fields name another; the client's signature has no default."""
    body = {"temperature": 0} | fields.pop("extra_body", {})
    return fields | {"extra_body": body}


def said(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_messages_plain(client: Anthropic) -> None:
    message = ask(client)
    assert said(message)
    assert message.role == "assistant"
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 8
    assert message.model.startswith(f"acme/{ADAPTER}@1:")


def test_messages_streamed(client: Anthropic) -> None:
    plain = ask(client)
    events = list(ask(client, stream=True))
    assert events[0].type == "message_start"
    assert events[-1].type == "message_stop"
    texts = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert "".join(texts) == said(plain)
    (delta,) = [event for event in events if event.type == "message_delta"]
    assert delta.usage.output_tokens == 8
    assert delta.delta.stop_reason == "max_tokens"


def test_the_clients_own_stream_helper(client: Anthropic) -> None:
    with client.messages.stream(model=ADAPTER, messages=ASK, max_tokens=8) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert said(message) == text != ""
    assert message.usage.input_tokens > 0


def test_the_key_may_come_as_a_bearer_token(live: LiveSystem) -> None:
    key = live.keys["acme"]
    with Anthropic(base_url=live.gateway_url, auth_token=key, api_key=None, max_retries=0) as c:
        assert said(ask(c))


def test_tokens_are_counted_as_a_request_would(client: Anthropic) -> None:
    count = client.messages.count_tokens(model=ADAPTER, messages=ASK)
    assert count.input_tokens == ask(client, max_tokens=1).usage.input_tokens


def test_a_system_prompt_is_part_of_the_request(client: Anthropic) -> None:
    system = "You speak only of the sea."
    plain = client.messages.count_tokens(model=ADAPTER, messages=ASK)
    longer = client.messages.count_tokens(model=ADAPTER, messages=ASK, system=system)
    assert longer.input_tokens != plain.input_tokens
    assert ask(client, system=system).usage.input_tokens == longer.input_tokens


def test_stop_sequences(client: Anthropic) -> None:
    whole = said(ask(client, max_tokens=16))
    stop = whole[len(whole) // 2 :][:4]
    message = ask(client, max_tokens=16, stop_sequences=[stop])
    assert message.stop_reason == "stop_sequence"
    assert message.stop_sequence == stop
    assert said(message) == whole[: whole.index(stop)]


def check_shape(error: anthropic.APIStatusError, kind: str) -> None:
    """Anthropic's error shape, with the request's id."""
    body = error.body
    assert isinstance(body, dict)
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert body["error"]["message"]
    assert body["request_id"] == error.response.headers["x-request-id"]


def test_a_wrong_key(live: LiveSystem) -> None:
    key = f"lpx_{'0' * 16}_{'A' * 43}"
    with Anthropic(base_url=live.gateway_url, api_key=key, max_retries=0) as stranger:
        for call in (
            lambda: ask(stranger),
            lambda: ask(stranger, stream=True),
            lambda: stranger.messages.count_tokens(model=ADAPTER, messages=ASK),
        ):
            with pytest.raises(anthropic.AuthenticationError) as raised:
                call()
            check_shape(raised.value, "authentication_error")


@pytest.mark.parametrize("model", ["nope", f"{ADAPTER}@99", "globex/support"])
def test_an_unknown_model(client: Anthropic, model: str) -> None:
    for call in (
        lambda: ask(client, model=model),
        lambda: ask(client, model=model, stream=True),
        lambda: client.messages.count_tokens(model=model, messages=ASK),
    ):
        with pytest.raises(anthropic.NotFoundError) as raised:
            call()
        check_shape(raised.value, "not_found_error")


@pytest.mark.parametrize(
    ("named", "fields"),
    [
        ("temperature", {"extra_body": {"temperature": 9}}),
        ("max_tokens", {"max_tokens": 0}),
        ("max_tokens", {"max_tokens": 10_000_000, "stream": True}),
        ("messages", {"messages": [{"role": "robot", "content": "hi"}]}),
        ("messages", {"messages": "hello"}),
        ("stop_sequences", {"stop_sequences": ["x"] * 99}),
        ("mcp_servers", {"extra_body": {"mcp_servers": [{"url": "http://127.0.0.1:1"}]}}),
        ("context length", {"messages": [{"role": "user", "content": "word " * 20_000}]}),
    ],
)
def test_bad_parameters(client: Anthropic, named: str, fields: dict[str, Any]) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        ask(client, **fields)
    check_shape(raised.value, "invalid_request_error")
    assert named in raised.value.message


def test_max_tokens_is_required(live: LiveSystem) -> None:
    answer = live.post("/v1/messages", {"model": ADAPTER, "messages": ASK})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "max_tokens" in answer.json()["error"]["message"]


async def test_async_client(live: LiveSystem) -> None:
    key = live.keys["acme"]
    async with AsyncAnthropic(base_url=live.gateway_url, api_key=key, max_retries=0) as client:
        asked: dict[str, Any] = {"model": ADAPTER, "messages": ASK, "max_tokens": 4}
        assert said(await client.messages.create(**asked))
        stream = await client.messages.create(**asked, stream=True)
        assert [event.type async for event in stream][-1] == "message_stop"
