"""Answers rendered beforehand, with a hole where the request id and the time stand."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from loadtest.fake.answers import Answer, Shape, dump
from loadtest.fake.http import LAST_CHUNK, chunk_bytes, head_bytes

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"

# Stand-ins for what differs from call to call; no model's name or text holds them.
MARK_ID = "id-5b1d0c5e9a7f4c31a2e8"
MARK_CREATED = 7_302_885_140_962_381_554
_HOLE = re.compile(rf'{MARK_ID}(","object":"[a-z._]+","created":){MARK_CREATED}'.encode())

Parts = tuple[bytes, ...]
"""Bytes between holes: `filling.join(parts)` is what is sent."""


@dataclass(frozen=True, slots=True)
class Template:
    """One answer, ready but for its request id and time."""

    model: str
    streamed: bool
    pieces: int
    """Engine steps that the answer takes."""
    choices: int
    """Tokens that one step yields."""
    between: bytes
    """What stands between the request id and the time."""
    writes: tuple[Parts, ...]
    """What is sent at each step; a plain answer is sent whole at the last."""

    def filling(self, request_id: bytes, created_s: int) -> bytes:
        """What goes into every hole of one call; request_id is as long as at the making."""
        return b"%s%s%d" % (request_id, self.between, created_s)


def make_template(
    answer: Answer, shape: Callable[[Answer], Shape], *, id_bytes: int, created_digits: int
) -> Template:
    """Render `answer`, whose id and time do not matter, as `shape` says it.

    id_bytes, created_digits: the lengths of what will fill the holes, for the sizes sent before.
    """
    marked = replace(answer, request_id=MARK_ID, created=MARK_CREATED)
    said = shape(marked)
    streamed = bool(answer.request.get("stream"))
    grown = id_bytes + created_digits - len(MARK_ID) - len(str(MARK_CREATED))
    if streamed:
        steps = [_framed(step, grown) for step in _steps(said, len(answer.pieces))]
        steps[0] = head_bytes(200, EVENTS, None) + steps[0]
        steps[-1] += LAST_CHUNK
    else:
        steps = [_sized(dump(said.plain()), grown)]
    (between,) = {hole for step in steps for hole in _HOLE.findall(step)}
    return Template(
        model=answer.model,
        streamed=streamed,
        pieces=len(answer.pieces),
        choices=answer.choices,
        between=between,
        writes=tuple(tuple(_HOLE.split(step)[::2]) for step in steps),
    )


def _steps(said: Shape, pieces: int) -> Iterator[list[bytes]]:
    """The events of a stream, step by step."""
    for index in range(pieces):
        head = said.head() if index == 0 else ()
        tail = said.tail() if index == pieces - 1 else ()
        yield [*head, *said.step(index), *tail]


def _framed(events: list[bytes], grown: int) -> bytes:
    return b"".join(chunk_bytes(event, _size(event, grown)) for event in events)


def _sized(body: bytes, grown: int) -> bytes:
    return head_bytes(200, JSON, _size(body, grown)) + body


def _size(text: bytes, grown: int) -> int:
    """The length of `text` once each of its holes has grown so much."""
    return len(text) + grown * len(_HOLE.findall(text))
