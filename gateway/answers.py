"""Answers as the engine sent them, plain or streamed, decoded into text: pure, for the judge.

The bytes may be cut off anywhere: what is whole is decoded, the rest is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.routes import Route

_FINISH_REASONS = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
    "repetition": "repetition",
    "abort": "abort",
}
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of one response."""

    text: str
    finish_reason: str | None
    """In OpenAI's words on every route, `other` for one not known; None for a cut-off answer."""
    has_tool_calls: bool


@dataclass(slots=True)
class _Draft:
    """An answer in the making."""

    text: str = ""
    finish_reason: str | None = None
    has_tool_calls: bool = False

    def done(self) -> Answer:
        reason = self.finish_reason
        if reason is not None:
            reason = _FINISH_REASONS.get(reason, _OTHER)
        return Answer(self.text, reason, self.has_tool_calls)


def answers(route: Route, content: bytes, *, streamed: bool) -> list[Answer]:
    """The answers in a body, or in the concatenated events of a stream."""
    if streamed:
        drafts = _STREAMED[route](_events(content))
    else:
        body = _object(content)
        drafts = [] if body is None else _PLAIN[route](body)
    return [draft.done() for draft in drafts]


def _events(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.split(b"\n"):
        # The last line may be cut, which makes it no object.
        payload = _object(line.removeprefix(b"data:")) if line.startswith(b"data:") else None
        if payload is not None:
            yield payload


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _inner(value: Any, name: str) -> dict[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _choices(body: dict[str, Any], message: str) -> list[_Draft]:
    drafts: dict[Any, _Draft] = {}
    _add_choices(drafts, body, message)
    return list(drafts.values())


def _add_choices(drafts: dict[Any, _Draft], body: dict[str, Any], message: str) -> None:
    """message: where a chat's choice holds what was said, `message` or `delta`."""
    for choice in _objects(body.get("choices")):
        draft = drafts.setdefault(choice.get("index"), _Draft())
        said = _inner(choice, message)
        draft.text += _text(said.get("content")) + _text(choice.get("text"))
        draft.has_tool_calls |= bool(said.get("tool_calls"))
        draft.finish_reason = choice.get("finish_reason") or draft.finish_reason


def _chat(body: dict[str, Any]) -> list[_Draft]:
    return _choices(body, "message")


def _streamed_choices(events: Iterator[dict[str, Any]]) -> list[_Draft]:
    drafts: dict[Any, _Draft] = {}
    for event in events:
        _add_choices(drafts, event, "delta")
    return list(drafts.values())


def _response(body: dict[str, Any]) -> list[_Draft]:
    draft = _Draft()
    for item in _objects(body.get("output")):
        draft.has_tool_calls |= item.get("type") == "function_call"
        if item.get("type") == "message":
            draft.text += "".join(_text(part.get("text")) for part in _objects(item.get("content")))
    status = body.get("status")
    if status == "incomplete":
        draft.finish_reason = _text(_inner(body, "incomplete_details").get("reason")) or _OTHER
    elif status == "completed":
        draft.finish_reason = "tool_calls" if draft.has_tool_calls else "stop"
    return [draft]


def _streamed_response(events: Iterator[dict[str, Any]]) -> list[_Draft]:
    draft = _Draft()
    for event in events:
        kind = event.get("type")
        if kind in ("response.completed", "response.incomplete"):
            return _response(_inner(event, "response"))
        if kind == "response.output_text.delta":
            draft.text += _text(event.get("delta"))
        draft.has_tool_calls |= kind == "response.function_call_arguments.delta"
    return [draft] if draft != _Draft() else []


def _message(body: dict[str, Any]) -> list[_Draft]:
    blocks = _objects(body.get("content"))
    return [
        _Draft(
            "".join(_text(block.get("text")) for block in blocks),
            _text(body.get("stop_reason")) or None,
            any(block.get("type") == "tool_use" for block in blocks),
        )
    ]


def _streamed_message(events: Iterator[dict[str, Any]]) -> list[_Draft]:
    draft: _Draft | None = None
    for event in events:
        if event.get("type") == "message_start":
            draft = _Draft()
        elif draft is not None:
            delta = _inner(event, "delta")
            draft.text += _text(delta.get("text"))
            draft.has_tool_calls |= _inner(event, "content_block").get("type") == "tool_use"
            draft.finish_reason = delta.get("stop_reason") or draft.finish_reason
    return [] if draft is None else [draft]


def _none(_: object) -> list[_Draft]:
    return []


_PLAIN = {
    Route.CHAT: _chat,
    Route.COMPLETIONS: _chat,
    Route.RESPONSES: _response,
    Route.MESSAGES: _message,
    Route.COUNT_TOKENS: _none,
}
_STREAMED = {
    Route.CHAT: _streamed_choices,
    Route.COMPLETIONS: _streamed_choices,
    Route.RESPONSES: _streamed_response,
    Route.MESSAGES: _streamed_message,
    Route.COUNT_TOKENS: _none,
}
