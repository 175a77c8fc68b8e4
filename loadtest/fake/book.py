"""The templates of the answers that were asked for, found by the bytes of the request.

A request is known again by its body without its request id, so that only the first of its kind is
parsed.
"""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from loadtest.fake.answers import Answer, Shape, dump
from loadtest.fake.http import Exchange
from loadtest.fake.requests import JSON, Refused
from loadtest.fake.state import Behaviour, Engine
from loadtest.fake.templates import Template, make_template

Key = TypeVar("Key", bound=Hashable)

_BODY_ID = b'"request_id":"'
_KNOWN = 4096
_KNOWN_BYTES = 16_384
"""Longer bodies are parsed each time."""
_NOT_IN_THE_ANSWER = {"messages", "prompt", "request_id", "cache_salt", "priority"}


class Book:
    """Finds or makes templates. What was made is forgotten when the engine's behaviour changes."""

    def __init__(
        self,
        engine: Engine,
        shapes: Mapping[str, Callable[[Answer], Shape]],
        read: Callable[[Exchange], Answer],
    ) -> None:
        """read: the answer to a request; raises Refused."""
        self._engine = engine
        self._shapes = shapes
        self._read = read
        self._by_body: dict[tuple[str, int, bytes], Template] = {}
        self._by_answer: dict[tuple[str, int, str, int, bytes], Template] = {}
        self._start_anew()

    def find(self, route: str, body: bytes, id_bytes: int) -> Template | None:
        """How to answer, for an id of that length; None leaves it to the ordinary handler."""
        if self._behaviour is not self._engine.behaviour:
            self._start_anew()
        if not self._playable:
            return None
        kind = (route, id_bytes, _without_id(body))
        template = self._by_body.get(kind)
        if template is None:
            template = self._learn(route, body, id_bytes)
            if template is not None and len(body) <= _KNOWN_BYTES:
                _remember(self._by_body, kind, template)
        if template is None or template.model == self._engine.base:
            return template
        return template if template.model in self._engine.adapters else None

    def _start_anew(self) -> None:
        self._behaviour = self._engine.behaviour
        self._playable = _is_playable(self._behaviour)
        self._by_body.clear()
        self._by_answer.clear()

    def _learn(self, route: str, body: bytes, id_bytes: int) -> Template | None:
        try:
            answer = self._read(Exchange("POST", route, {"content-type": JSON}, body))
        except Refused:
            return None
        if answer.next_tokens is not None:
            return None  # They belong to the words of the prompt, and a template has none.
        options = {n: v for n, v in answer.request.items() if n not in _NOT_IN_THE_ANSWER}
        said = dump([answer.choices, options])
        kind = (route, id_bytes, answer.model, answer.prompt_tokens, said)
        template = self._by_answer.get(kind)
        if template is None:
            shape, digits = self._shapes[route], len(str(int(time.time())))
            template = make_template(answer, shape, id_bytes=id_bytes, created_digits=digits)
            _remember(self._by_answer, kind, template)
        return template


def _is_playable(behaviour: Behaviour) -> bool:
    """Whether answers come as templates say: no fault, nothing held, names checked."""
    return (
        behaviour == behaviour.without_faults()
        and not behaviour.frozen
        and behaviour.hold_after_tokens is None
        and not behaviour.skip_name_validation
    )


def _without_id(body: bytes) -> bytes:
    """The body without the value of `request_id`, as the gateway writes it."""
    start = body.find(_BODY_ID)
    if start < 0:
        return body
    start += len(_BODY_ID)
    return body[:start] + body[body.find(b'"', start) :]


def _remember(known: dict[Key, Template], key: Key, template: Template) -> None:
    if len(known) >= _KNOWN:
        known.clear()
    known[key] = template
