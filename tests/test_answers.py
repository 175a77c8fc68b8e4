"""Answers are decoded, plain and streamed, from bodies that vLLM 0.32 sent, shortened."""

# The engine's own lines stay whole.
# ruff: noqa: E501

import pytest

from gateway.answers import Answer, answers
from gateway.routes import Route

CHAT = b"""{"id":"chatcmpl-rid7","object":"chat.completion","created":1795312950,"model":"base",
"choices":[{"index":0,"message":{"role":"assistant","content":"Hello there","refusal":null,
"annotations":null,"audio":null,"function_call":null,"reasoning":null},"logprobs":null,
"finish_reason":"length","stop_reason":null,"token_ids":null,"routed_experts":null},{"index":1,
"message":{"role":"assistant","content":"I'm glad","refusal":null,"annotations":null,"audio":null,
"function_call":null,"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,
"token_ids":null,"routed_experts":null}],"service_tier":null,"system_fingerprint":"vllm-0.32.0",
"usage":{"prompt_tokens":32,"total_tokens":48,"completion_tokens":16}}"""

CHAT_TOOL = b"""{"id":"chatcmpl-1","object":"chat.completion","model":"base","choices":[{"index":0,
"message":{"role":"assistant","content":null,"reasoning":null,"tool_calls":[{"id":"chatcmpl-tool-1",
"type":"function","function":{"name":"f","arguments":"{\\"a\\": 1}"}}]},"finish_reason":"tool_calls"
}],"usage":{"prompt_tokens":32,"total_tokens":62,"completion_tokens":30}}"""

CHAT_STREAM = b"""data: {"id":"chatcmpl-rid7","object":"chat.completion.chunk","model":"base","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-rid7","object":"chat.completion.chunk","model":"base","choices":[{"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-rid7","object":"chat.completion.chunk","model":"base","choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-rid7","object":"chat.completion.chunk","model":"base","choices":[{"index":1,"delta":{"content":"I"},"logprobs":null,"finish_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-rid7","object":"chat.completion.chunk","model":"base","choices":[{"index":0,"delta":{"content":" there"},"logprobs":null,"finish_reason":"length","stop_reason":null}]}

data: {"id":"chatcmpl-rid7","object":"chat.completion.chunk","model":"base","choices":[{"index":1,"delta":{"content":"'m"},"logprobs":null,"finish_reason":"stop","stop_reason":null}]}

data: {"id":"chatcmpl-rid7","object":"chat.completion.chunk","model":"base","choices":[],"usage":{"prompt_tokens":32,"total_tokens":38,"completion_tokens":6}}

data: [DONE]

"""

CHAT_TOOL_STREAM = b"""data: {"id":"chatcmpl-rid7","object":"chat.completion.chunk","model":"base","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-rid7","object":"chat.completion.chunk","model":"base","choices":[{"index":0,"delta":{"content":null,"tool_calls":[{"id":"chatcmpl-tool-a51e","type":"function","index":0,"function":{"name":"f"}}]},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-rid7","object":"chat.completion.chunk","model":"base","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls","stop_reason":null}]}

data: [DONE]

"""

COMPLETION = b"""{"id":"cmpl-abc123","object":"text_completion","created":1795312490,"model":"base",
"choices":[{"index":0,"text":") = 100","logprobs":null,"finish_reason":"length","stop_reason":null,
"token_ids":null},{"index":1,"text":" 4 5 6","logprobs":null,"finish_reason":"length",
"stop_reason":null}],"usage":{"prompt_tokens":8,"total_tokens":20,"completion_tokens":12}}"""

COMPLETION_STREAM = b"""data: {"id":"cmpl-abc123","object":"text_completion","model":"base","choices":[{"index":0,"text":")","logprobs":null,"finish_reason":null,"stop_reason":null}]}

data: {"id":"cmpl-abc123","object":"text_completion","model":"base","choices":[{"index":1,"text":" ","logprobs":null,"finish_reason":null,"stop_reason":null}]}

data: {"id":"cmpl-abc123","object":"text_completion","model":"base","choices":[{"index":0,"text":" =","logprobs":null,"finish_reason":"length","stop_reason":null}]}

data: {"id":"cmpl-abc123","object":"text_completion","model":"base","choices":[{"index":1,"text":"4","logprobs":null,"finish_reason":"length","stop_reason":null}]}

data: [DONE]

"""

RESPONSE = b"""{"id":"resp_abc123","created_at":1795312491,"incomplete_details":{"reason":
"max_output_tokens"},"instructions":null,"model":"base","object":"response","output":[{"id":
"rs_1","summary":[],"type":"reasoning","content":[{"text":"hm","type":"reasoning_text"}]},{"id":
"msg_a2155c50abda45bd","content":[{"annotations":[],"text":"Hello there, welcome to my","type":
"output_text","logprobs":null}],"role":"assistant","status":"completed","type":"message"}],
"status":"incomplete","text":null,"usage":{"input_tokens":32,"output_tokens":6,"total_tokens":38}}"""

RESPONSE_TOOL = b"""{"id":"resp_1","incomplete_details":null,"model":"base","object":"response",
"output":[{"arguments":"{\\"a\\": 1}","call_id":"call_1","name":"f","type":"function_call","id":
"fc_1","status":"completed"}],"status":"completed"}"""

RESPONSE_STREAM = b"""event: response.created
data: {"response":{"id":"resp_abc123","model":"base","object":"response","output":[],"status":"in_progress"},"sequence_number":0,"type":"response.created"}

event: response.output_item.added
data: {"item":{"id":"msg_9d","content":[],"role":"assistant","status":"in_progress","type":"message"},"output_index":0,"sequence_number":2,"type":"response.output_item.added"}

event: response.output_text.delta
data: {"content_index":0,"delta":"Hello","item_id":"msg_9d","logprobs":[],"output_index":0,"sequence_number":4,"type":"response.output_text.delta"}

event: response.output_text.delta
data: {"content_index":0,"delta":" there","item_id":"msg_9d","logprobs":[],"output_index":0,"sequence_number":5,"type":"response.output_text.delta"}

event: response.output_text.done
data: {"content_index":0,"item_id":"msg_9d","output_index":0,"sequence_number":8,"text":"Hello there","type":"response.output_text.done"}

event: response.completed
data: {"response":{"id":"resp_abc123","incomplete_details":null,"model":"base","object":"response","output":[{"id":"msg_9d","content":[{"annotations":[],"text":"Hello there","type":"output_text"}],"role":"assistant","status":"completed","type":"message"}],"status":"completed"},"sequence_number":11,"type":"response.completed"}

"""

MESSAGE = b"""{"id":"chatcmpl-8ae9","type":"message","role":"assistant","content":[{"type":"text",
"text":"Hello there, "},{"type":"text","text":"welcome"}],"model":"base","stop_reason":"max_tokens",
"usage":{"input_tokens":32,"output_tokens":6}}"""

MESSAGE_TOOL = b"""{"id":"chatcmpl-1","type":"message","role":"assistant","content":[{"type":
"tool_use","id":"t","name":"f","input":{"a":1}}],"model":"base","stop_reason":"tool_use",
"usage":{"input_tokens":32,"output_tokens":6}}"""

MESSAGE_STREAM = b"""event: message_start
data: {"type":"message_start","message":{"id":"chatcmpl-847b","type":"message","role":"assistant","content":[],"model":"base","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":32,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","content_block":{"type":"text","text":""},"index":0}

event: content_block_delta
data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hello"},"index":0}

event: content_block_delta
data: {"type":"content_block_delta","delta":{"type":"text_delta","text":" there"},"index":0}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":32,"output_tokens":4}}

event: message_stop
data: {"type":"message_stop"}

"""

MESSAGE_TOOL_STREAM = b"""event: message_start
data: {"type":"message_start","message":{"id":"chatcmpl-rid7","type":"message","role":"assistant","content":[],"model":"base","stop_reason":null}}

event: content_block_start
data: {"type":"content_block_start","content_block":{"type":"tool_use","id":"chatcmpl-tool-8d86","name":"f","input":{}},"index":0}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":32,"output_tokens":30}}

event: message_stop
data: {"type":"message_stop"}

"""


def text(text: str, finish_reason: str | None) -> Answer:
    return Answer(text, finish_reason, has_tool_calls=False)


TOOL_CALL = Answer("", "tool_calls", has_tool_calls=True)


@pytest.mark.parametrize(
    ("route", "content", "expected"),
    [
        (Route.CHAT, CHAT, [text("Hello there", "length"), text("I'm glad", "stop")]),
        (Route.CHAT, CHAT_TOOL, [TOOL_CALL]),
        (Route.COMPLETIONS, COMPLETION, [text(") = 100", "length"), text(" 4 5 6", "length")]),
        (Route.RESPONSES, RESPONSE, [text("Hello there, welcome to my", "length")]),
        (Route.RESPONSES, RESPONSE_TOOL, [TOOL_CALL]),
        (Route.MESSAGES, MESSAGE, [text("Hello there, welcome", "length")]),
        (Route.MESSAGES, MESSAGE_TOOL, [TOOL_CALL]),
        (Route.COUNT_TOKENS, b'{"input_tokens":32}', []),
    ],
)
def test_plain_bodies(route: Route, content: bytes, expected: list[Answer]) -> None:
    assert answers(route, content, streamed=False) == expected


@pytest.mark.parametrize(
    ("route", "content", "expected"),
    [
        (Route.CHAT, CHAT_STREAM, [text("Hello there", "length"), text("I'm", "stop")]),
        (Route.CHAT, CHAT_TOOL_STREAM, [TOOL_CALL]),
        (Route.COMPLETIONS, COMPLETION_STREAM, [text(") =", "length"), text(" 4", "length")]),
        (Route.RESPONSES, RESPONSE_STREAM, [text("Hello there", "stop")]),
        (Route.MESSAGES, MESSAGE_STREAM, [text("Hello there", "stop")]),
        (Route.MESSAGES, MESSAGE_TOOL_STREAM, [TOOL_CALL]),
    ],
)
def test_streams(route: Route, content: bytes, expected: list[Answer]) -> None:
    assert answers(route, content, streamed=True) == expected


@pytest.mark.parametrize(
    ("route", "content", "last_word"),
    [
        (Route.CHAT, CHAT_STREAM, b" there"),
        (Route.COMPLETIONS, COMPLETION_STREAM, b" ="),
        (Route.RESPONSES, RESPONSE_STREAM, b" there"),
        (Route.MESSAGES, MESSAGE_STREAM, b" there"),
    ],
)
def test_a_cut_stream_gives_what_came_and_no_finish_reason(
    route: Route, content: bytes, last_word: bytes
) -> None:
    cut = content[: content.index(last_word)]
    first = answers(route, cut, streamed=True)[0]
    assert first.finish_reason is None
    assert first.text in ("Hello", ")")


@pytest.mark.parametrize(
    ("route", "content"),
    [
        (Route.CHAT, CHAT_STREAM),
        (Route.COMPLETIONS, COMPLETION_STREAM),
        (Route.RESPONSES, RESPONSE_STREAM),
        (Route.MESSAGES, MESSAGE_STREAM),
        (Route.MESSAGES, MESSAGE_TOOL_STREAM),
    ],
)
def test_a_stream_cut_at_any_byte_gives_a_beginning_of_the_answers(
    route: Route, content: bytes
) -> None:
    whole = answers(route, content, streamed=True)
    for end in range(len(content)):
        found = answers(route, content[:end], streamed=True)
        assert len(found) <= len(whole)
        assert all(
            full.text.startswith(part.text) for part, full in zip(found, whole, strict=False)
        )


@pytest.mark.parametrize("route", Route)
@pytest.mark.parametrize("content", [b"", b"null", b"[1]", b"{", b'{"error":{"message":"x"}}'])
def test_what_is_no_answer_says_nothing(route: Route, content: bytes) -> None:
    assert [a.text for a in answers(route, content, streamed=False)] in ([], [""])
    assert answers(route, b"data: " + content + b"\n\n", streamed=True) == []


def test_an_unknown_finish_reason_cannot_make_labels() -> None:
    content = CHAT.replace(b'"finish_reason":"length"', b'"finish_reason":"of the future"')
    assert answers(Route.CHAT, content, streamed=False)[0].finish_reason == "other"
