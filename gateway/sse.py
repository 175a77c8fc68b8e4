"""Server-sent events of an answer, followed without being rewritten: pure bytes in, bytes out.

Whole events pass on as they came. What is read on the way: the number of token events, the usage,
and whether an error or the end was seen. The one thing taken out is the usage event of a client
that did not ask for it.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.routes import Route

_MAX_EVENT_BYTES = 16 * 2**20
# In JSON text a quote is escaped, so this cannot come from a model's words.
_USAGE = b'"usage":{'
_END = b"\n\n"


class Usage(NamedTuple):
    """Tokens as the engine counted them."""

    prompt_tokens: int
    completion_tokens: int


class EventTooLarge(Exception):
    """An event over the limit: the engine is out of order."""


_TOKEN_MARK = {
    Route.CHAT: b"data: {",
    Route.COMPLETIONS: b"data: {",
    Route.RESPONSES: b"event: response.output_text.delta\n",
    Route.MESSAGES: b"event: content_block_delta\n",
}
_END_MARK = {
    Route.CHAT: b"data: [DONE]",
    Route.COMPLETIONS: b"data: [DONE]",
    Route.RESPONSES: b"event: response.completed\n",
    Route.MESSAGES: b"event: message_stop\n",
}
_ERROR_MARK = {
    Route.CHAT: b'data: {"error"',
    Route.COMPLETIONS: b'data: {"error"',
    Route.RESPONSES: b"event: error\n",
    Route.MESSAGES: b"event: error\n",
}


class EventStream:
    """Follows one stream. hide_usage: the client did not ask for the usage event."""

    def __init__(self, route: Route, *, hide_usage: bool) -> None:
        self._hide_usage = hide_usage
        self._token_mark = _TOKEN_MARK[route]
        self._end_mark = _END_MARK[route]
        self._error_mark = _ERROR_MARK[route]
        self._held = b""
        self.token_events = 0
        self.usage: Usage | None = None
        self.failed = False
        """Whether the engine sent an error event of its own; nothing after it counts."""
        self.ended = False
        """Whether the stream's last event was seen."""

    def feed(self, chunk: bytes) -> bytes:
        """The whole events that are complete now, without those taken out.

        An error event and all after it are held back: its words are the engine's, not for clients.
        Raises EventTooLarge.
        """
        if self.failed:
            return b""
        data = self._held + chunk if self._held else chunk
        end = data.rfind(_END) + len(_END)
        if end < len(_END):
            if len(data) > _MAX_EVENT_BYTES:
                raise EventTooLarge
            self._held = data
            return b""
        self._held = data[end:]
        return self._follow(data[:end] if self._held else data)

    def _follow(self, block: bytes) -> bytes:
        error = _find(block, self._error_mark)
        if error >= 0:
            self.failed = True
            block = block[:error]
        self.token_events += _count(block, self._token_mark)
        if _find(block, self._end_mark) >= 0:
            self.ended = True
        if _USAGE in block:
            return self._take_usage(block)
        return block

    def _take_usage(self, block: bytes) -> bytes:
        kept: list[bytes] = []
        for event in block.split(_END)[:-1]:
            payload = _payload(event) if _USAGE in event else None
            if payload is not None:
                self.usage = usage_of(payload) or self.usage
                if self._hide_usage and payload.get("choices") == []:
                    self.token_events -= 1
                    continue
            kept.append(event + _END)
        return b"".join(kept)


def _find(block: bytes, mark: bytes) -> int:
    """Where a line begins with the mark, else -1; the text of an answer cannot begin a line."""
    if block.startswith(mark):
        return 0
    return block.find(b"\n" + mark) + 1 or -1


def _count(block: bytes, mark: bytes) -> int:
    return block.startswith(mark) + block.count(b"\n" + mark)


def _payload(event: bytes) -> dict[str, Any] | None:
    for line in event.split(b"\n"):
        if line.startswith(b"data: {"):
            try:
                parsed = json.loads(line[6:])
            except ValueError:
                return None
            return parsed if isinstance(parsed, dict) else None
    return None


def usage_of(payload: Mapping[str, Any]) -> Usage | None:
    """The usage in a body or an event of any route, None where there is none."""
    for holder in (payload, payload.get("response"), payload.get("message")):
        usage = holder.get("usage") if isinstance(holder, Mapping) else None
        if isinstance(usage, Mapping):
            prompt = usage.get("prompt_tokens", usage.get("input_tokens", 0))
            if "cache_read_input_tokens" in usage:  # Anthropic's count leaves them out.
                prompt += usage["cache_read_input_tokens"] or 0
                prompt += usage.get("cache_creation_input_tokens") or 0
            completion = usage.get("completion_tokens", usage.get("output_tokens", 0))
            return Usage(int(prompt or 0), int(completion or 0))
    return None


def error_event(
    route: Route, openai_body: Mapping[str, Any], anthropic_body: Mapping[str, Any]
) -> bytes:
    """The event that tells a client in mid-stream that no more will come."""
    if route is Route.MESSAGES:
        return b"event: error\ndata: " + json.dumps(anthropic_body).encode() + _END
    if route is Route.RESPONSES:
        error = openai_body["error"]
        body = {
            "type": "error",
            "code": error["code"],
            "message": error["message"],
            "param": error["param"],
            "sequence_number": 0,
        }
        return b"event: error\ndata: " + json.dumps(body).encode() + _END
    return b"data: " + json.dumps(openai_body).encode() + _END
