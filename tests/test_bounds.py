"""Dear fields are bounded on every route, and the error names the field."""

import json
from typing import Any

import pytest

from gateway.config import Limits
from gateway.errors import BadRequest
from gateway.fields import check
from gateway.routes import Route

LIMITS = Limits(
    n=4,
    prompts=8,
    max_tokens=100,
    logprobs=5,
    stop=2,
    stop_chars=10,
    logit_bias=3,
    tools=2,
    schema_bytes=300,
    regex_chars=20,
)
LONG_PATTERN = "a" * 21


def refused_param(route: Route, body: dict[str, Any]) -> str | None:
    try:
        check(route, body, LIMITS)
    except BadRequest as error:
        return error.param
    return None


def chat_tool(**parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def json_schema(**schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}


@pytest.mark.parametrize(
    ("route", "body"),
    [
        (Route.CHAT, {"n": 4, "best_of": 4, "use_beam_search": True}),
        (Route.CHAT, {"n": 3.0}),
        (Route.CHAT, {"max_tokens": 100, "max_completion_tokens": 0, "min_tokens": 100}),
        (Route.CHAT, {"logprobs": True, "top_logprobs": 5, "prompt_logprobs": None}),
        (Route.CHAT, {"echo": False}),
        (Route.COMPLETIONS, {"echo": True}),
        (Route.COMPLETIONS, {"echo": False, "logprobs": 0}),
        (Route.CHAT, {"stop": "0123456789"}),
        (Route.CHAT, {"stop": ["a", "b"], "stop_token_ids": [1, 2, 3], "bad_words": ["x"]}),
        (Route.CHAT, {"logit_bias": {"1": 1, "2": -1, "3": 0.5}}),
        (Route.CHAT, {"tools": [chat_tool(type="object"), chat_tool(type="object")]}),
        (Route.CHAT, {"response_format": json_schema(type="string", pattern="a" * 20)}),
        (Route.CHAT, {"structured_outputs": {"choice": ["a", "b", "c"]}}),
        (Route.CHAT, {"structured_outputs": {"json": '{"type": "object"}'}}),
        (Route.CHAT, {"user": "u" * 1024, "metadata": {"k": "v"}}),
        (Route.CHAT, {"chat_template_kwargs": {"enable_thinking": False}}),
        (Route.CHAT, {"stream": True, "stream_options": {"include_usage": True}}),
        (Route.CHAT, {"repetition_detection": {"max_pattern_size": 256, "min_count": 3}}),
        (Route.COMPLETIONS, {"prompt": ["p"] * 8, "n": 1}),
        (Route.COMPLETIONS, {"prompt": ["p"] * 4, "n": 2}),
        (Route.COMPLETIONS, {"prompt": list(range(50)), "n": 4, "logprobs": 5}),
        (Route.COMPLETIONS, {"prompt": [[1, 2]] * 8}),
        (Route.COMPLETIONS, {"prompt": "p", "n": None, "max_tokens": None}),
        (Route.RESPONSES, {"max_output_tokens": 100, "top_logprobs": 5, "tools": []}),
        (Route.RESPONSES, {"tools": [{"type": "function", "name": "f", "parameters": {}}]}),
        (
            Route.MESSAGES,
            {"max_tokens": 100, "stop_sequences": ["a"], "metadata": {"user": "u"}},
        ),
        (Route.MESSAGES, {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}),
    ],
)
def test_what_is_in_bounds_passes(route: Route, body: dict[str, Any]) -> None:
    assert refused_param(route, body) is None


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        (Route.CHAT, {"n": 5}, "n"),
        (Route.CHAT, {"n": 0}, "n"),
        (Route.CHAT, {"n": "3"}, "n"),
        (Route.CHAT, {"n": True}, "n"),
        (Route.CHAT, {"n": 2.5}, "n"),
        (Route.CHAT, {"best_of": 5}, "best_of"),
        (Route.COMPLETIONS, {"n": 5, "use_beam_search": True, "prompt": "p"}, "n"),
        (Route.COMPLETIONS, {"prompt": ["p"] * 9}, "prompt"),
        (Route.COMPLETIONS, {"prompt": [[1]] * 9}, "prompt"),
        (Route.COMPLETIONS, {"prompt": ["p"] * 5, "n": 2}, "n"),
        (Route.CHAT, {"max_tokens": 101}, "max_tokens"),
        (Route.CHAT, {"max_completion_tokens": 101}, "max_completion_tokens"),
        (Route.COMPLETIONS, {"max_tokens": -1}, "max_tokens"),
        (Route.RESPONSES, {"max_output_tokens": 101}, "max_output_tokens"),
        (Route.MESSAGES, {"max_tokens": 101}, "max_tokens"),
        (Route.CHAT, {"min_tokens": 101}, "min_tokens"),
        (Route.CHAT, {"top_logprobs": 6}, "top_logprobs"),
        (Route.CHAT, {"top_logprobs": -1}, "top_logprobs"),
        (Route.CHAT, {"prompt_logprobs": 0}, "prompt_logprobs"),
        (Route.CHAT, {"echo": True}, "echo"),
        (Route.COMPLETIONS, {"prompt_logprobs": 0}, "prompt_logprobs"),
        (Route.COMPLETIONS, {"echo": True, "logprobs": 0}, "echo"),
        (Route.COMPLETIONS, {"logprobs": 6}, "logprobs"),
        (Route.COMPLETIONS, {"logprobs": True}, "logprobs"),
        (Route.RESPONSES, {"top_logprobs": 6}, "top_logprobs"),
        (Route.CHAT, {"logprob_token_ids": [1, 2, 3, 4]}, "logprob_token_ids"),
        (Route.CHAT, {"allowed_token_ids": [1, 2, 3, 4]}, "allowed_token_ids"),
        (Route.CHAT, {"stop_token_ids": [1, 2, 3, 4]}, "stop_token_ids"),
        (Route.CHAT, {"stop_token_ids": 1}, "stop_token_ids"),
        (Route.CHAT, {"stop": ["a", "b", "c"]}, "stop"),
        (Route.CHAT, {"stop": "0123456789x"}, "stop"),
        (Route.CHAT, {"stop": [1]}, "stop"),
        (Route.RESPONSES, {"stop": {"a": 1}}, "stop"),
        (Route.MESSAGES, {"stop_sequences": ["a", "b", "c"]}, "stop_sequences"),
        (Route.CHAT, {"bad_words": ["0123456789x"]}, "bad_words"),
        (Route.CHAT, {"logit_bias": {"1": 0, "2": 0, "3": 0, "4": 0}}, "logit_bias"),
        (Route.RESPONSES, {"logit_bias": [1]}, "logit_bias"),
        (Route.CHAT, {"tools": [chat_tool()] * 3}, "tools"),
        (Route.CHAT, {"tools": [chat_tool(title="x" * 300)]}, "tools[0]"),
        (Route.CHAT, {"tools": ["f"]}, "tools[0]"),
        (Route.CHAT, {"tools": [chat_tool(pattern=LONG_PATTERN)]}, "tools[0]"),
        (Route.MESSAGES, {"tools": [{"name": "f", "input_schema": {"a": "x" * 300}}]}, "tools[0]"),
        (Route.COUNT_TOKENS, {"tools": [{"name": "f"}] * 3}, "tools"),
        (Route.RESPONSES, {"tools": [{"type": "web_search"}]}, "tools[0].type"),
        (
            Route.RESPONSES,
            {"tools": [{"type": "mcp", "server_url": "http://x.example"}]},
            "tools[0].type",
        ),
        (Route.CHAT, {"response_format": json_schema(title="x" * 300)}, "response_format"),
        (Route.CHAT, {"response_format": "json"}, "response_format"),
        (
            Route.CHAT,
            {"response_format": json_schema(patternProperties={LONG_PATTERN: {}})},
            "response_format",
        ),
        (Route.RESPONSES, {"text": {"format": {"schema": {"a": "x" * 300}}}}, "text"),
        (
            Route.MESSAGES,
            {"output_config": {"format": {"schema": {"items": [{"pattern": LONG_PATTERN}]}}}},
            "output_config",
        ),
        (Route.CHAT, {"structured_outputs": {"regex": LONG_PATTERN}}, "structured_outputs"),
        (Route.CHAT, {"structured_outputs": {"grammar": "x" * 300}}, "structured_outputs"),
        (
            Route.CHAT,
            {"structured_outputs": {"choice": ["a", "b", "c", "d"]}},
            "structured_outputs.choice",
        ),
        (
            Route.CHAT,
            {"structured_outputs": {"json": json.dumps({"pattern": LONG_PATTERN})}},
            "structured_outputs.json",
        ),
        (Route.CHAT, {"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        (
            Route.COMPLETIONS,
            {"structured_outputs": {"structural_tag": "[" * 65 + "]" * 65}},
            "structured_outputs.structural_tag",
        ),
        (Route.CHAT, {"user": "u" * 1025}, "user"),
        (Route.CHAT, {"user": 7}, "user"),
        (Route.RESPONSES, {"metadata": {"k": "v" * 16_384}}, "metadata"),
        (Route.CHAT, {"stream": 1}, "stream"),
        (Route.CHAT, {"stream_options": True}, "stream_options"),
        (
            Route.CHAT,
            {"stream_options": {"include_usage": "yes"}},
            "stream_options.include_usage",
        ),
        (
            Route.CHAT,
            {"repetition_detection": {"max_pattern_size": 257}},
            "repetition_detection.max_pattern_size",
        ),
        (
            Route.CHAT,
            {"chat_template_kwargs": {"chat_template": "x"}},
            "chat_template_kwargs.chat_template",
        ),
        (
            Route.COUNT_TOKENS,
            {"chat_template_kwargs": {"tokenize": False}},
            "chat_template_kwargs.tokenize",
        ),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(
    route: Route, body: dict[str, Any], param: str
) -> None:
    assert refused_param(route, body) == param


def test_a_property_called_pattern_is_no_regular_expression() -> None:
    limits = Limits(regex_chars=5)
    schema = {"type": "object", "properties": {"pattern": {"description": "x" * 50}}}
    check(Route.CHAT, {"tools": [chat_tool(**schema)]}, limits)
    schema["properties"]["pattern"]["pattern"] = "x" * 6  # type: ignore[index]
    with pytest.raises(BadRequest):
        check(Route.CHAT, {"tools": [chat_tool(**schema)]}, limits)


def test_sizes_are_those_of_the_encoded_text() -> None:
    name = "é" * 40
    body = {"response_format": {"type": "text", "x": name}}
    size_bytes = len('{"type":"text","x":""}') + 80
    check(Route.CHAT, body, Limits(schema_bytes=size_bytes))
    with pytest.raises(BadRequest):
        check(Route.CHAT, body, Limits(schema_bytes=size_bytes - 1))


def test_no_error_repeats_what_the_client_sent() -> None:
    secret = "my-private-prompt"
    for body in (
        {"structured_outputs": {"json": f'{{"{secret}'}},
        {"stop": [secret * 10]},
        {"n": secret},
    ):
        with pytest.raises(BadRequest) as refused:
            check(Route.CHAT, body, LIMITS)
        assert secret not in refused.value.message
