"""One request's answer as it comes: what its head and its body say, and how it ended."""

import asyncio
import json
import math
import re
from typing import Any

from loadtest.client.reply import Reply, Timeouts
from loadtest.client.said import error_code, is_answer, said_in, token_counts
from loadtest.client.sse import EventStream
from loadtest.samples import Outcome

_LONGEST_BODY = 64 * 2**20
_OK = 200
_QUEUE = re.compile(rb"(?:^|[ ,])queue *;(?:[^,]*;)? *dur *= *([0-9.]+)")


class Exchange:
    """From the sending to the end; `done` is set once, by the end or by the first failure."""

    __slots__ = (
        "_body", "_cold_start", "_events", "_queue_s", "_size", "_stream", "_words",
        "body_s", "done", "heard_s", "reply", "sent_s", "status",
    )  # fmt: skip

    def __init__(
        self, done: asyncio.Future[None], sent_s: float, *, stream: bool, words: bool
    ) -> None:
        """words: keep what the answer says. sent_s: as in Reply."""
        self.done = done
        self.sent_s = sent_s
        self.heard_s: float | None = None
        """When anything of the answer came last but token events that came as whole chunks."""
        self.body_s: float | None = None
        """When the body began."""
        self.status: int | None = None
        self.reply: Reply | None = None
        self._stream = stream
        self._words = words
        self._events: EventStream | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._cold_start = False
        self._queue_s: float | None = None

    def header(self, name: bytes, value: bytes) -> None:
        """A header of the answer. name: in lower case."""
        if name == b"content-type":
            if value.lower().startswith(b"text/event-stream"):
                self._events = EventStream(keep=self._words)
        elif name in (b"x-cold-start", b"x-loraplex-cold-start"):
            self._cold_start = value.strip().lower() in (b"1", b"true", b"yes")
        elif name == b"server-timing" and (found := _QUEUE.search(value)):
            self._queue_s = _number(found[1])
        elif name == b"x-queue-time":
            self._queue_s = _number(value)

    def body(self, body: bytes, now_s: float) -> None:
        """The body's next bytes."""
        if self.body_s is None:
            self.body_s = now_s
        if self._events is not None:
            self._events.feed(body, now_s)
            return
        self._size += len(body)
        if self._size <= _LONGEST_BODY:
            self._body.append(body)

    def takes_chunks(self) -> EventStream | None:
        """The stream, where its next reads may be handed to it unparsed, if they are whole chunks
        of token events."""
        events = self._events
        return events if events is not None and events.in_step and self.reply is None else None

    def end(self, now_s: float) -> None:
        """The answer has come whole."""
        outcome, error = self._judge()
        self._end(outcome, error, now_s)

    def fail(self, outcome: Outcome, error: str, now_s: float) -> None:
        """It broke off. After `[DONE]` nothing can be missing any more."""
        if self._events is not None and self._events.done and outcome != "cancelled":
            self.end(now_s)
        else:
            self._end(outcome, error, now_s)

    def due(self, timeouts: Timeouts) -> tuple[float, str] | None:
        """The moment at which it has taken too long if nothing comes before, and what did."""
        moments: list[tuple[float, str]] = []
        if timeouts.total_s is not None:
            moments.append((self.sent_s + timeouts.total_s, "total"))
        if self.body_s is None:
            if timeouts.first_byte_s is not None:
                moments.append((self.sent_s + timeouts.first_byte_s, "first byte"))
        elif timeouts.idle_s is not None:
            moments.append((self._last_heard_s() + timeouts.idle_s, "idle"))
        return min(moments, default=None)

    def _last_heard_s(self) -> float:
        times = self._events.times if self._events is not None else None
        return max(self.heard_s or 0.0, self.body_s or 0.0, times[-1] if times else 0.0)

    def _end(self, outcome: Outcome, error: str | None, now_s: float) -> None:
        if self.reply is not None:
            return
        reply = Reply(outcome, self.sent_s, now_s, self.status, error)
        reply.cold_start, reply.queue_s = self._cold_start, self._queue_s
        if self._events is not None:
            self._events.finish()
            reply.times = self._events.times
            reply.prompt_tokens, reply.output_tokens = token_counts(self._events.usage)
            if self._words:
                reply.said = said_in(self._events.events())
        elif outcome == "ok":
            answer = self._parsed()
            reply.prompt_tokens, reply.output_tokens = token_counts(answer.get("usage"))
            if self._words:
                reply.said = said_in([answer])
        self.reply = reply
        if not self.done.done():
            self.done.set_result(None)

    def _judge(self) -> tuple[Outcome, str | None]:
        if self.status != _OK:
            return "http_error", error_code(self._parsed()) or f"HTTP {self.status}"
        if self._events is not None:
            self._events.finish()
            return self._judge_stream(self._events)
        if self._size > _LONGEST_BODY:
            return "bad_answer", "body too long"
        answer = self._parsed()
        if answer.get("error"):
            return "bad_answer", error_code(answer) or "error"
        if not is_answer(answer):
            return "bad_answer", "no completion" if answer else "not JSON"
        return "ok", None

    def _judge_stream(self, events: EventStream) -> tuple[Outcome, str | None]:
        if not self._stream:
            return "bad_answer", "stream not asked for"
        if events.server_error is not None:
            return "bad_answer", events.server_error
        if events.fault is not None:
            return "bad_answer", events.fault
        return ("ok", None) if events.done else ("bad_answer", "no [DONE]")

    def _parsed(self) -> dict[str, Any]:
        """The body; empty where it is no JSON object."""
        try:
            found = json.loads(b"".join(self._body))
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def _number(milliseconds: bytes) -> float | None:
    """In seconds; None for what is no duration: a server's clock may say anything."""
    try:
        seconds = float(milliseconds) / 1000
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None
