"""Planned requests as they go over the wire."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.sides.question import BASE
from benchmarks.soaking.plan import SLOW_READERS, Flaw, Planned, Route

BODY_LIMIT_BYTES = 256 * 2**10
"""As the gateway is to be set; one byte more is refused."""
PLAIN_TOKENS = 16
STREAM_TOKENS = 48
LONG_TOKENS = 2000
"""Of a stream whose reader is slow: more than all buffers on its way hold."""
_TEXT = "Where is the parcel with my shoes? The order number is 4711-0815."


@dataclass(frozen=True)
class Caller:
    """Who asks: a key, and the adapter it asks for."""

    key: str
    adapter: str
    answers: str
    """How the name begins that answers carry as their model."""


@dataclass(frozen=True)
class Request:
    """The head, the body, and what every good answer holds."""

    head: bytes
    body: bytes
    mark: bytes


def tokens_of(planned: Planned) -> int:
    """How many are asked for."""
    if planned.pace in SLOW_READERS:
        return LONG_TOKENS
    return STREAM_TOKENS if planned.streamed else PLAIN_TOKENS


class Wire:
    """Makes requests for one gateway. Every fourth caller's request goes to the base model."""

    def __init__(self, authority: str, callers: Sequence[Caller]) -> None:
        self._authority = authority
        self._callers = callers
        self._kept = cache(self._make)

    def request(self, planned: Planned) -> Request:
        """The same object for requests that differ in nothing but when they are sent."""
        return self._kept(
            planned.route,
            planned.streamed,
            planned.flaw,
            tokens_of(planned),
            planned.caller,
            planned.number % 4 == 0,
        )

    def _make(
        self,
        route: Route,
        streamed: bool,
        flaw: Flaw | None,
        tokens: int,
        number: int,
        base: bool,
    ) -> Request:
        caller = self._callers[number]
        body = _body(route, BASE if base else caller.adapter, tokens, flaw, streamed=streamed)
        method = "GET" if route is Route.MODELS or flaw is Flaw.WRONG_METHOD else "POST"
        path = "/v1/unknown" if flaw is Flaw.UNKNOWN_ROUTE else route.value
        key = "lpx_0123456789abcdef_wrong" if flaw is Flaw.WRONG_KEY else caller.key
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._authority}"]
        lines.append(f"authorization: Bearer {key}")
        if method == "GET":
            body = b""
        else:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        head = "\r\n".join([*lines, "", ""]).encode()
        return Request(head, body, _mark(route, BASE if base else caller.answers))


def _body(route: Route, model: str, tokens: int, flaw: Flaw | None, *, streamed: bool) -> bytes:
    asked: dict[str, Any] = {"model": model, "stream": streamed, **_question(route, tokens)}
    if route is Route.COUNT_TOKENS:
        del asked["stream"], asked["max_tokens"]
    if flaw is Flaw.UNKNOWN_MODEL:
        asked["model"] = "no-such-model"
    elif flaw is Flaw.BAD_FIELD:
        asked["n"] = 1000
    elif flaw is Flaw.BAD_VALUE:
        asked["temperature"] = 9
    elif flaw is Flaw.TOO_LARGE:
        asked["padding"] = "x" * BODY_LIMIT_BYTES
    content = json.dumps(asked).encode()
    return content[:-1] if flaw is Flaw.BAD_JSON else content


def _question(route: Route, tokens: int) -> dict[str, Any]:
    match route:
        case Route.COMPLETIONS:
            return {"prompt": _TEXT, "max_tokens": tokens}
        case Route.RESPONSES:
            return {"input": _TEXT, "max_output_tokens": tokens}
    return {"messages": [{"role": "user", "content": _TEXT}], "max_tokens": tokens}


def _mark(route: Route, model: str) -> bytes:
    """Whoever answers says its name, but where tokens are counted and models listed."""
    if route in (Route.COUNT_TOKENS, Route.MODELS):
        return b""
    # The engine's JSON has no space after a colon, as vLLM's.
    return f'"model":"{model}'.encode()
