"""One answer as it comes, and what is to be said of it."""

import re

import httptools

from benchmarks.soaking.plan import STATUS, Planned, Route

BROKEN = 502
"""What a stream is counted under that the engine broke off."""
FAILED = frozenset({502, 503})
"""What a request may end with whose call the engine broke off."""

_BROKEN_EVENT = re.compile(rb'\ndata: [^\n]*"(?:engine_failed|api_error)"')
_END = {
    Route.CHAT: b"\ndata: [DONE]\n\n",
    Route.COMPLETIONS: b"\ndata: [DONE]\n\n",
    Route.RESPONSES: b'"type":"response.completed"',
    Route.MESSAGES: b'"type":"message_stop"',
}
_ID_IN_BODY = {
    Route.CHAT: b'"id":"chatcmpl-%b',
    Route.COMPLETIONS: b'"id":"cmpl-%b',
    Route.RESPONSES: b'"id":"resp_%b',
    Route.MESSAGES: b'"id":"chatcmpl-%b',
}


class Garbled(Exception):
    """What came is no HTTP, or more than one answer."""


class Answer:
    """Takes an answer's bytes."""

    def __init__(self) -> None:
        self.status = 0
        self.request_id = b""
        self.begun = False
        """Whether the whole head has come."""
        self.complete = False
        self.keeps_alive = False
        """Whether the connection may be used again."""
        self.body = bytearray()
        self.on_body = self.body.extend
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Raises Garbled."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise Garbled(f"not an answer: {error.__context__ or error}") from None

    def on_message_begin(self) -> None:
        if self.complete:
            raise Garbled("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self.request_id = value

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.begun = True

    def on_message_complete(self) -> None:
        self.complete = True
        self.keeps_alive = self._parser.should_keep_alive()

    def at_end(self, route: Route) -> bool:
        """Whether the stream has said its last word, though its end may not have come."""
        return self.complete or _END[route] in self.body[-200:]

    @property
    def final_status(self) -> int:
        """What a complete answer is counted under: a stream may have broken after its status."""
        if self.status == 200 and _BROKEN_EVENT.search(b"\n" + self.body):
            return BROKEN
        return self.status


def problem(planned: Planned, answer: Answer, mark: bytes) -> str | None:
    """What is wrong with a complete answer to this request."""
    status = answer.final_status
    if planned.flaw is not None:
        wanted = STATUS[planned.flaw]
        return None if status == wanted else f"{status} for {planned.flaw.value}, not {wanted}"
    if status in FAILED:
        return None
    if status != 200:
        return f"{status} for a good request"
    return _content_problem(planned, answer, mark)


def _content_problem(planned: Planned, answer: Answer, mark: bytes) -> str | None:
    if mark not in answer.body:
        return "another model's answer"
    own_id = _ID_IN_BODY.get(planned.route)
    if own_id is not None and own_id % answer.request_id not in answer.body:
        return "another request's answer"
    if planned.streamed and _END[planned.route] not in answer.body:
        return "a stream without its end"
    return None
