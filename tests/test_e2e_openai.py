"""The unmodified `openai` client against the whole system on the real vLLM."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion

from tests.live_system import ADAPTER, LiveSystem

pytestmark = pytest.mark.vllm

ASK: list[Any] = [{"role": "user", "content": "How do I change my address?"}]
SAME: dict[str, Any] = {"temperature": 0, "seed": 1}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
WEATHER_ASK: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
# A call of the tool, with the tags around it, takes more tokens than other answers here.
CALL_TOKENS = 96


@pytest.fixture(scope="module")
def client(live: LiveSystem) -> Iterator[OpenAI]:
    """Acme's client."""
    with OpenAI(base_url=live.openai_url, api_key=live.keys["acme"], max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(live: LiveSystem) -> Iterator[OpenAI]:
    """A client whose key is well formed but not known."""
    key = f"lpx_{'0' * 16}_{'A' * 43}"
    with OpenAI(base_url=live.openai_url, api_key=key, max_retries=0) as client:
        yield client


def chat(client: OpenAI, **fields: Any) -> ChatCompletion:
    asked: dict[str, Any] = {"model": ADAPTER, "messages": ASK, "max_tokens": 8} | SAME | fields
    answer = client.chat.completions.create(**asked)
    assert isinstance(answer, ChatCompletion)
    return answer


def streamed(client: OpenAI, **fields: Any) -> list[Any]:
    asked: dict[str, Any] = (
        {"model": ADAPTER, "messages": ASK, "max_tokens": 8, "stream": True} | SAME | fields
    )
    return list(client.chat.completions.create(**asked))


def text_of(chunks: list[Any]) -> str:
    deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    return "".join(delta or "" for delta in deltas)


def test_chat_plain(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=ADAPTER, messages=ASK, max_tokens=8, temperature=0
    )
    answer = raw.parse()
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    assert answer.model.startswith(f"acme/{ADAPTER}@1:")
    assert raw.headers["x-loraplex-version"] == f"acme/{ADAPTER}@1"
    assert raw.headers["x-request-id"] in answer.id


def test_chat_streamed_with_usage(client: OpenAI) -> None:
    plain = chat(client)
    chunks = streamed(client, stream_options={"include_usage": True})
    assert text_of(chunks) == plain.choices[0].message.content
    assert chunks[-1].choices == []
    assert (
        chunks[-1].usage
        == plain.usage.model_copy(
            update={"prompt_tokens_details": None, "completion_tokens_details": None}
        )
        if plain.usage
        else False
    )
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "length"
    assert {chunk.model for chunk in chunks} == {plain.model}


def test_chat_streamed_without_usage_hides_the_usage_event(client: OpenAI) -> None:
    chunks = streamed(client)
    assert text_of(chunks)
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)


def test_completions_plain_and_streamed(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": ADAPTER, "prompt": "The sea is", "max_tokens": 6} | SAME
    plain = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True))
    counted = list(
        client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert plain.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in chunks) == plain.choices[0].text
    assert all(chunk.usage is None for chunk in chunks)
    assert counted[-1].usage.completion_tokens == plain.usage.completion_tokens == 6
    assert plain.model.startswith(f"acme/{ADAPTER}@1:")


def test_completions_of_many_prompts(client: OpenAI) -> None:
    answer = client.completions.create(model=ADAPTER, prompt=["One", "Two"], max_tokens=2)
    assert [choice.index for choice in answer.choices] == [0, 1]


def test_responses_plain_and_streamed(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": ADAPTER,
        "input": "How do I change my address?",
        "temperature": 0,
    }
    plain = client.responses.create(**asked, max_output_tokens=6)
    events = list(client.responses.create(**asked, max_output_tokens=6, stream=True))
    assert plain.output_text
    assert plain.status == "incomplete"
    assert plain.usage.output_tokens == 6
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == plain.output_text
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.output_tokens == 6
    assert events[-1].response.model == plain.model
    assert plain.model.startswith(f"acme/{ADAPTER}@1:")


def test_responses_take_instructions_and_a_conversation(client: OpenAI) -> None:
    turns: list[Any] = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "What is my name?"},
    ]
    answer = client.responses.create(
        model=ADAPTER, instructions="Be brief.", input=turns, max_output_tokens=6
    )
    assert answer.output_text


def test_models_are_listed_and_retrieved(live: LiveSystem, client: OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert listed >= {live.base, ADAPTER, f"{ADAPTER}@1"}
    full_name = chat(client, max_tokens=1).model
    assert "/" in full_name
    for name in (live.base, ADAPTER, f"{ADAPTER}@1", f"acme/{ADAPTER}@1", full_name):
        assert client.models.retrieve(name).id == name


def test_every_name_of_a_version_gives_the_same_answer(client: OpenAI) -> None:
    first = chat(client)
    for name in (f"{ADAPTER}@1", f"acme/{ADAPTER}@1", first.model):
        again = chat(client, model=name)
        assert again.model == first.model
        assert again.choices[0].message.content == first.choices[0].message.content


def test_the_base_model_answers_under_its_own_name(live: LiveSystem, client: OpenAI) -> None:
    base, adapter = chat(client, model=live.base), chat(client)
    assert base.model == live.base
    assert base.choices[0].message.content != adapter.choices[0].message.content


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_a_demanded_tool_is_called(client: OpenAI, choice: Any) -> None:
    answer = chat(
        client,
        messages=WEATHER_ASK,
        tools=[WEATHER],
        tool_choice=choice,
        max_tokens=CALL_TOKENS,
    )
    calls = answer.choices[0].message.tool_calls
    assert calls
    assert calls[0].type == "function"
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments)["city"] in ("Paris", "Rome")


def test_a_tool_call_is_streamed(client: OpenAI) -> None:
    chunks = streamed(
        client,
        messages=WEATHER_ASK,
        tools=[WEATHER],
        tool_choice="required",
        max_tokens=CALL_TOKENS,
    )
    calls = [call.function for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert next(call.name for call in calls if call.name) == "get_weather"
    arguments = "".join(call.arguments or "" for call in calls)
    assert json.loads(arguments)["city"] in ("Paris", "Rome")
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_tools_may_be_left_to_the_model_and_their_results_sent_back(client: OpenAI) -> None:
    offered = chat(client, messages=WEATHER_ASK, tools=[WEATHER], tool_choice="auto")
    assert offered.choices[0].finish_reason in ("length", "stop", "tool_calls")
    function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    call = {"id": "call_1", "type": "function", "function": function}
    turns = [
        *WEATHER_ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny, 21 degrees"},
    ]
    assert chat(client, messages=turns, tools=[WEATHER]).choices[0].message.content


def wanted(schema: dict[str, Any]) -> dict[str, Any]:
    named = {"name": "colour", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def test_json_schema_output_is_valid(live: LiveSystem, client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "warm": {"type": "boolean"}},
        "required": ["colour", "warm"],
        "additionalProperties": False,
    }
    # Of the base: a schema lets white space through, and an adapter this small may write only that.
    messages = [{"role": "user", "content": "Name a colour."}]
    answer = chat(client, model=live.base, messages=messages, max_tokens=48, **wanted(schema))
    assert answer.choices[0].finish_reason == "stop"
    value = json.loads(answer.choices[0].message.content or "")
    assert value["colour"] in ("red", "blue")
    assert isinstance(value["warm"], bool)


def test_an_adapter_keeps_to_a_json_schema(client: OpenAI) -> None:
    answer = chat(client, **wanted({"enum": ["red", "blue"]}))
    assert answer.choices[0].finish_reason == "stop"
    assert json.loads(answer.choices[0].message.content or "") in ("red", "blue")


def test_logprobs(client: OpenAI) -> None:
    answer = chat(client, logprobs=True, top_logprobs=3, max_tokens=4)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 4
    for token in logprobs.content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token
    assert "".join(token.token for token in logprobs.content) == answer.choices[0].message.content


def test_many_answers_to_one_request(client: OpenAI) -> None:
    plain = chat(client, n=2, temperature=1, max_tokens=4)
    assert [choice.index for choice in plain.choices] == [0, 1]
    assert plain.usage is not None
    assert plain.usage.completion_tokens <= 8
    chunks = streamed(client, n=2, temperature=1, max_tokens=4)
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}


def test_stop_strings(client: OpenAI) -> None:
    whole = chat(client, max_tokens=16).choices[0].message.content or ""
    stop = whole[len(whole) // 2 :][:4]
    answer = chat(client, max_tokens=16, stop=[stop]).choices[0]
    assert answer.finish_reason == "stop"
    assert answer.message.content == whole[: whole.index(stop)]


def test_embeddings_are_refused_with_the_reason(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="generates"):
        client.embeddings.create(model=ADAPTER, input="x")


def test_responses_are_stateless(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": ADAPTER, "input": "hi", "max_output_tokens": 2}
    answer = client.responses.create(**asked)
    with pytest.raises(openai.NotFoundError, match="stateless"):
        client.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError, match="stateless") as raised:
        client.responses.create(**asked, previous_response_id=answer.id)
    assert raised.value.param == "previous_response_id"


def test_a_wrong_key_is_refused_everywhere(stranger: OpenAI) -> None:
    for call in (
        stranger.models.list,
        lambda: stranger.models.retrieve(ADAPTER),
        lambda: chat(stranger),
        lambda: streamed(stranger),
        lambda: stranger.completions.create(model=ADAPTER, prompt="x"),
        lambda: stranger.responses.create(model=ADAPTER, input="x"),
        lambda: stranger.embeddings.create(model=ADAPTER, input="x"),
    ):
        with pytest.raises(openai.AuthenticationError) as raised:
            call()
        assert raised.value.code == "invalid_api_key"


@pytest.mark.parametrize("model", ["nope", f"{ADAPTER}@99", "base/x", "a" * 300, "../x", ""])
def test_an_unknown_model_is_not_found(client: OpenAI, model: str) -> None:
    for call in (
        lambda: chat(client, model=model),
        lambda: streamed(client, model=model),
        lambda: client.completions.create(model=model, prompt="x"),
        lambda: client.responses.create(model=model, input="x"),
    ):
        with pytest.raises(openai.NotFoundError if model else openai.BadRequestError) as raised:
            call()
        assert raised.value.param == "model"


def test_an_unknown_model_cannot_be_retrieved(client: OpenAI) -> None:
    for model in ("nope", f"{ADAPTER}@99", "globex/support"):
        with pytest.raises(openai.NotFoundError) as raised:
            client.models.retrieve(model)
        assert raised.value.code == "model_not_found"


def test_too_long_a_prompt_is_refused(client: OpenAI) -> None:
    text = "word " * 20_000
    for call in (
        lambda: chat(client, messages=[{"role": "user", "content": text}]),
        lambda: streamed(client, messages=[{"role": "user", "content": text}]),
        lambda: client.completions.create(model=ADAPTER, prompt=text),
        lambda: client.responses.create(model=ADAPTER, input=text),
    ):
        with pytest.raises(openai.BadRequestError, match="maximum context length") as raised:
            call()
        assert raised.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("temperature", {"temperature": 9}),
        ("temperature", {"temperature": "warm"}),
        ("top_p", {"top_p": 7}),
        ("max_tokens", {"max_tokens": 0}),
        ("max_tokens", {"max_tokens": 10_000_000}),
        ("n", {"n": 0}),
        ("n", {"n": 1000}),
        ("top_logprobs", {"logprobs": True, "top_logprobs": 50}),
        ("stop", {"stop": ["x"] * 99}),
        ("messages", {"messages": "hello"}),
        ("messages", {"messages": []}),
        ("stream", {"stream": "yes"}),
        ("logit_bias", {"logit_bias": {str(token): 1 for token in range(2000)}}),
        ("response_format", {"response_format": {"type": "json_schema"}}),
        ("kv_transfer_params", {"extra_body": {"kv_transfer_params": {"x": 1}}}),
        ("vllm_xargs", {"extra_body": {"vllm_xargs": {"x": 1}}}),
    ],
)
def test_a_bad_parameter_is_named(client: OpenAI, param: str, fields: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, **fields)
    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"
    assert param in raised.value.message


def test_media_by_address_are_refused(client: OpenAI) -> None:
    part = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/cat.png"}}
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, messages=[{"role": "user", "content": [part]}])
    assert (raised.value.param or "").startswith("messages")


async def test_async_client(live: LiveSystem) -> None:
    key = live.keys["acme"]
    asked: dict[str, Any] = {"model": ADAPTER, "messages": ASK, "max_tokens": 6} | SAME
    async with AsyncOpenAI(base_url=live.openai_url, api_key=key, max_retries=0) as client:
        plain = await client.chat.completions.create(**asked)
        stream = await client.chat.completions.create(**asked, stream=True)
        chunks = [chunk async for chunk in stream]
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(**asked | {"model": "nope"})
    assert text_of(chunks) == plain.choices[0].message.content
