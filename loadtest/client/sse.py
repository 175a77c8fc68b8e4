"""Counts the token events of a server-sent stream, with as little work an event as can be.

Of a server's stream nearly all events begin with the same bytes, up to the token's text. The first
such event is parsed as JSON; what it begins with is remembered, and of those that follow only the
begin is compared and the end is looked for. Every event that differs is parsed.
"""

import json
import re
from array import array
from collections.abc import Iterator, Mapping
from typing import Any

from loadtest.client.said import error_code, has_token

_LONGEST_EVENT = 16 * 2**20
_MOST_BEGINNINGS = 8
_QUOTE, _NEWLINE = 0x22, 0x0A
_TEXT = re.compile(rb'"(content|reasoning_content|reasoning|text)"[ \t]*:[ \t]*"')
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def _chunk_lines(most: int) -> list[bytes]:
    """The first line of a chunk of HTTP, by the size of all of it; what fits none is a space."""
    lines = [b" "] * most
    for size in range(1, most):
        line = b"%x\r\n" % size
        if (whole := len(line) + size + 2) < most:
            lines[whole] = line
    return lines


_MOST_CHUNK = 4096
"""A larger chunk goes the ordinary way."""
_CHUNK_LINES = _chunk_lines(_MOST_CHUNK)

Json = dict[str, Any]


class EventStream:
    """One answer's events, fed with the body's bytes in any pieces.

    An event is a token event where any choice has text, reasoning or a tool call in it: neither
    the first chunk with the role alone is, nor the usage, nor one whose text is empty.
    """

    __slots__ = (
        "_beginning", "_beginnings", "_kept", "_last", "_line_feed_follows", "_rest",
        "done", "fault", "server_error", "times", "usage",
    )  # fmt: skip

    def __init__(self, *, keep: bool = False) -> None:
        """keep: hold the bytes, so that `events()` can be asked."""
        self.times = array("d")
        """When each token event had come whole."""
        self.usage: Mapping[str, Any] | None = None
        """The latest that the server said, once `finish` was called."""
        self.server_error: str | None = None
        """The code or kind of an error event."""
        self.fault: str | None = None
        """What is wrong with the stream itself."""
        self.done = False
        """Whether `[DONE]` came."""
        self._rest = b""
        self._line_feed_follows = False
        self._beginning: bytes | None = None
        self._beginnings: list[bytes] = []
        self._last = b""
        """The last event, if it was not parsed."""
        self._kept: list[bytes] | None = [] if keep else None

    def feed(self, body: bytes, now_s: float) -> None:
        """Takes the next bytes of the body, which came at `now_s`."""
        if b"\r" in body or self._line_feed_follows:
            body = self._plain(body)
        if self._kept is not None:
            self._kept.append(body)
        if self._rest:
            body = self._rest + body
        tokens = self._take(body)
        if tokens == 1:
            self.times.append(now_s)
        elif tokens:
            self.times.extend((now_s,) * tokens)

    @property
    def in_step(self) -> bool:
        """Whether `take_chunk` may be asked: an event has ended, and what one begins with is
        known."""
        whole = not self._rest and not self._line_feed_follows
        return whole and self._beginning is not None and self._kept is None and not self.done

    def take_chunk(self, data: bytes, now_s: float) -> bool:
        """Takes bytes of the connection that came at `now_s`, if they are one whole chunk that
        holds one token event, and it begins as those before; else takes nothing and returns False.
        Only while `in_step`, which stays as it is."""
        size, beginning = len(data), self._beginning
        if size >= _MOST_CHUNK or beginning is None:
            return False
        line = _CHUNK_LINES[size]
        begin = len(line)
        text = begin + len(beginning)
        if (
            data.startswith(line)
            and data.startswith(beginning, begin)
            and data.endswith(b"\n\n\r\n")
            and data.find(b"\n", text) == size - 4
            and data.find(b"\r", text) == size - 2
            and data[text] != _QUOTE
        ):
            self.times.append(now_s)
            self._last = data  # A chunk's own lines are no fields of an event.
            return True
        return False

    def finish(self) -> None:
        """The body has ended: what came without a blank line after it is no event, but that some
        servers end so."""
        if (_event(self._rest)[1] or b"").strip() == b"[DONE]":
            self.done = True
        if self._last:
            parsed = _parsed(_event(self._last)[1])
            if parsed is not None and isinstance(usage := parsed.get("usage"), dict):
                self.usage = usage
        self._last = self._rest = b""

    def events(self) -> Iterator[Json]:
        """All that was kept, parsed; what is no JSON is left out."""
        for event in b"".join(self._kept or []).split(b"\n\n"):
            if (parsed := _parsed(_event(event)[1])) is not None:
                yield parsed

    def _take(self, body: bytes) -> int:
        """Reads the whole events of `body` and keeps the rest. Returns the token events."""
        beginning, tokens, at, size = self._beginning, 0, 0, len(body)
        while at < size:
            if beginning is not None and body.startswith(beginning, at):
                text = at + len(beginning)
                end = body.find(b"\n", text)
                if end < 0 or end + 1 == size:
                    break
                if body[end + 1] == _NEWLINE and body[text] != _QUOTE and not self.done:
                    tokens += 1
                    self._last = body[at:end]
                    at = end + 2
                    continue
            elif (other := self._known(body, at)) is not None:
                beginning = self._beginning = other
                continue
            if body[at] == _NEWLINE:
                at += 1
                continue
            end = body.find(b"\n\n", at)
            if end < 0:
                break
            tokens += self._read(body[at:end])
            beginning = self._beginning
            at = end + 2
        self._rest = body[at:]
        if len(self._rest) > _LONGEST_EVENT:
            self.fault, self._rest = "event too long", b""
        return tokens

    def _known(self, body: bytes, at: int) -> bytes | None:
        """Another of the beginnings seen: of several choices, each has its own."""
        for beginning in self._beginnings:
            if body.startswith(beginning, at):
                return beginning
        return None

    def _read(self, event: bytes) -> int:
        """Parses an event. Returns 1 for a token event, else 0."""
        name, data = _event(event)
        if self.done or not data:
            return 0
        if data.strip() == b"[DONE]":
            self.done = True
            return 0
        parsed = _parsed(data)
        if parsed is None:
            self.fault = self.fault or "event is not JSON"
            return 0
        self._last = b""
        if parsed.get("error") or name == b"error":
            self.server_error = self.server_error or error_code(parsed) or "error event"
            return 0
        if isinstance(usage := parsed.get("usage"), dict):
            self.usage = usage
        choices = parsed.get("choices")
        if not isinstance(choices, list) or not any(map(has_token, choices)):
            return 0
        self._learn(event)
        return 1

    def _learn(self, event: bytes) -> None:
        """Remembers how a token event begins, where that shows that it is one.

        No JSON text holds an unescaped quote, so `"content":"` is a key and never a part of a
        text; what begins with the same bytes has its text at the same place.
        """
        if b"\n" in event or not event.startswith(b"data:"):
            return
        found = [one for one in _TEXT.finditer(event) if event[one.end()] != _QUOTE]
        if len(found) != 1:
            return
        beginning = event[: found[0].end()]
        self._beginning = beginning
        self._beginnings = [beginning, *self._beginnings][:_MOST_BEGINNINGS]

    def _plain(self, body: bytes) -> bytes:
        """The same with every line's end a line feed. A carriage return ends a line at once; the
        line feed that may follow it in the next piece belongs to it."""
        if self._line_feed_follows and body:
            body = body.removeprefix(b"\n")
            self._line_feed_follows = False
        if body:
            self._line_feed_follows = body.endswith(b"\r")
        return body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _event(event: bytes) -> tuple[bytes, bytes | None]:
    """An event's name and its data; None where it has none, as a comment."""
    name, data = b"", []
    for line in event.removeprefix(_BYTE_ORDER_MARK).split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return name, b"\n".join(data) if data else None


def _parsed(data: bytes | None) -> Json | None:
    try:
        found = json.loads(data) if data else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
