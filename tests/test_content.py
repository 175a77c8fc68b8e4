"""A conversation holds its own content: nothing that the engine would have to fetch or look up."""

from typing import Any

import pytest

from gateway.config import Limits
from gateway.errors import BadRequest
from gateway.fields import check
from gateway.routes import Route

DATA_URL = "data:image/png;base64,iVBORw0KGgo="
WEB_URL = "http://169.254.169.254/latest"


def refused_param(route: Route, body: dict[str, Any]) -> str | None:
    try:
        check(route, body, Limits())
    except BadRequest as error:
        return error.param
    return None


def chat(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, *parts]}]}


def responses(*parts: Any) -> dict[str, Any]:
    return {"input": [{"type": "message", "role": "user", "content": list(parts)}]}


def image(**source: Any) -> dict[str, Any]:
    return {"type": "image", "source": source}


@pytest.mark.parametrize(
    ("route", "body"),
    [
        (Route.CHAT, {"messages": [{"role": "user", "content": f"look at {WEB_URL}"}]}),
        (Route.CHAT, chat({"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}})),
        (Route.CHAT, chat({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}})),
        (Route.CHAT, chat({"type": "file", "file": {"file_data": DATA_URL, "filename": "a"}})),
        (Route.RESPONSES, {"input": "hello"}),
        (Route.RESPONSES, responses({"type": "input_image", "image_url": DATA_URL})),
        (
            Route.RESPONSES,
            {"input": [{"type": "function_call_output", "call_id": "c", "output": WEB_URL}]},
        ),
        (
            Route.MESSAGES,
            {"messages": [{"role": "user", "content": [image(type="base64", data="AA")]}]},
        ),
        (Route.MESSAGES, {"system": [{"type": "text", "text": WEB_URL}]}),
        # The arguments of a tool call are the client's own data.
        (
            Route.MESSAGES,
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "input": {"image_url": WEB_URL}}],
                    }
                ]
            },
        ),
        (
            Route.CHAT,
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {"function": {"name": "f", "arguments": '{"file_url": "http://x"}'}}
                        ],
                    }
                ]
            },
        ),
    ],
)
def test_content_in_the_request_passes(route: Route, body: dict[str, Any]) -> None:
    assert refused_param(route, body) is None


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ({"type": "image_url", "image_url": {"url": WEB_URL}}, "image_url"),
        ({"type": "image_url", "image_url": WEB_URL}, "image_url"),
        ({"image_url": WEB_URL}, "image_url"),
        ({"type": "image_url", "image_url": {"url": f" {DATA_URL}"}}, "image_url"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "image_url"),
        ({"type": "image_url", "image_url": [WEB_URL]}, "image_url"),
        ({"type": "video_url", "video_url": {"url": WEB_URL}}, "video_url"),
        ({"type": "audio_url", "audio_url": {"url": WEB_URL}}, "audio_url"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "file"),
        ({"type": "image_url", "image_url": {"url": DATA_URL}, "uuid": "other"}, "uuid"),
        ({"uuid": "other", "image_url": None}, "uuid"),
        ({"type": "image_embeds", "image_embeds": "AA"}, "image_embeds"),
        ({"type": "prompt_embeds", "data": "AA"}, "prompt_embeds"),
        ({"audio_embeds": "AA"}, "audio_embeds"),
    ],
)
def test_chat_parts_that_point_elsewhere_are_refused(part: dict[str, Any], where: str) -> None:
    assert refused_param(Route.CHAT, chat(part)) == f"messages[0].content[1].{where}"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (
            responses({"type": "input_image", "image_url": WEB_URL}),
            "input[0].content[0].image_url",
        ),
        (responses({"type": "input_image", "file_id": "f"}), "input[0].content[0].file_id"),
        (responses({"type": "input_file", "file_url": WEB_URL}), "input[0].content[0].file_url"),
        (responses({"type": "input_file", "file_id": "f"}), "input[0].content[0].file_id"),
        (
            {
                "input": [
                    {
                        "type": "function_call_output",
                        "output": [{"type": "input_image", "image_url": WEB_URL}],
                    }
                ]
            },
            "input[0].output[0].image_url",
        ),
        (
            {"input": [{"type": "computer_call_output", "output": {"image_url": WEB_URL}}]},
            "input[0].output.image_url",
        ),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
    ],
)
def test_response_items_that_point_elsewhere_are_refused(body: dict[str, Any], param: str) -> None:
    assert refused_param(Route.RESPONSES, body) == param


@pytest.mark.parametrize("route", [Route.MESSAGES, Route.COUNT_TOKENS])
@pytest.mark.parametrize(
    ("blocks", "where"),
    [
        ([image(type="url", url=WEB_URL)], "[0].source.url"),
        ([image(type="file", file_id="file_1")], "[0].source.file_id"),
        (
            [{"type": "document", "source": {"type": "url", "url": WEB_URL}}],
            "[0].source.url",
        ),
        (
            [{"type": "tool_result", "content": [image(type="url", url=WEB_URL)]}],
            "[0].content[0].source.url",
        ),
    ],
)
def test_message_blocks_that_point_elsewhere_are_refused(
    route: Route, blocks: list[Any], where: str
) -> None:
    body = {"messages": [{"role": "user", "content": blocks}]}
    assert refused_param(route, body) == f"messages[0].content{where}"
    assert refused_param(route, {"system": blocks}) == f"system{where}"


def test_a_tool_added_in_mid_conversation_is_bounded_as_the_others_are() -> None:
    def body(pattern_chars: int) -> dict[str, Any]:
        schema = {"type": "string", "pattern": "a" * pattern_chars}
        tool = {"type": "tool_definition", "definition": {"name": "f", "input_schema": schema}}
        block = {"type": "tool_addition", "tool": tool}
        return {"messages": [{"role": "system", "content": [block]}]}

    assert refused_param(Route.MESSAGES, body(2048)) is None
    assert refused_param(Route.MESSAGES, body(2049)) == "messages[0].content[0]"
