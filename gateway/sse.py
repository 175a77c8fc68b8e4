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


class _Mark:
    """What a line of an event begins with; the text of an answer cannot begin a line."""

    __slots__ = ("_within", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._within = b"\n" + text

    def is_in(self, block: bytes) -> bool:
        return self._within in block or block.startswith(self.text)

    def find(self, block: bytes) -> int:
        return 0 if block.startswith(self.text) else block.find(self._within) + 1

    def count(self, block: bytes) -> int:
        return block.startswith(self.text) + block.count(self._within)


_TOKEN_MARK = {
    Route.CHAT: _Mark(b"data: {"),
    Route.COMPLETIONS: _Mark(b"data: {"),
    Route.RESPONSES: _Mark(b"event: response.output_text.delta\n"),
    Route.MESSAGES: _Mark(b"event: content_block_delta\n"),
}
_END_MARK = {
    Route.CHAT: _Mark(b"data: [DONE]"),
    Route.COMPLETIONS: _Mark(b"data: [DONE]"),
    Route.RESPONSES: _Mark(b"event: response.completed\n"),
    Route.MESSAGES: _Mark(b"event: message_stop\n"),
}
_ERROR_MARK = {
    Route.CHAT: _Mark(b'data: {"error"'),
    Route.COMPLETIONS: _Mark(b'data: {"error"'),
    Route.RESPONSES: _Mark(b"event: error\n"),
    Route.MESSAGES: _Mark(b"event: error\n"),
}


class EventStream:
    """Follows one stream. hide_usage: the client did not ask for the usage event."""

    __slots__ = (
        "_end_mark",
        "_error_mark",
        "_held",
        "_hide_usage",
        "_token_mark",
        "ended",
        "failed",
        "token_events",
        "usage",
    )

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
        if data.endswith(_END):
            self._held = b""
            return self._follow(data)
        end = data.rfind(_END) + len(_END)
        if end < len(_END):
            if len(data) > _MAX_EVENT_BYTES:
                raise EventTooLarge
            self._held = data
            return b""
        self._held = data[end:]
        return self._follow(data[:end])

    def _follow(self, block: bytes) -> bytes:
        if (
            # One event of one line, which is what a token is on OpenAI's older routes.
            block.find(b"\n") == len(block) - len(_END)
            and block.startswith(self._token_mark.text)
            and not block.startswith(self._error_mark.text)
            and block.rfind(_USAGE) < 0  # `in` takes five times as long here.
        ):
            self.token_events += 1
            return block
        if self._error_mark.is_in(block):
            self.failed = True
            block = block[: self._error_mark.find(block)]
        self.token_events += self._token_mark.count(block)
        if self._end_mark.is_in(block):
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
            return tokens_of(usage)
    return None


def tokens_of(usage: Mapping[str, Any]) -> Usage:
    """The tokens in a usage object of any route."""
    prompt = usage.get("prompt_tokens", usage.get("input_tokens", 0))
    if "cache_read_input_tokens" in usage:  # Anthropic's count leaves them out.
        prompt += usage["cache_read_input_tokens"] or 0
        prompt += usage.get("cache_creation_input_tokens") or 0
    completion = usage.get("completion_tokens", usage.get("output_tokens", 0))
    return Usage(int(prompt or 0), int(completion or 0))


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
