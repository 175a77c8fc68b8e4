"""The fast mode: generating requests answered from templates, the rest by the ordinary handler.

What is not plainly such a request (another route, a body without a length, a refusal, a fault to
be played) goes to the ordinary handler as it came. Calls leave no record, they only count.
"""

import asyncio
import itertools
import os
import random
import socket
import struct
import time
from collections.abc import Callable
from typing import cast

from loadtest.fake.book import Book
from loadtest.fake.hot_request import HotRequest, may_become_hot, read_hot
from loadtest.fake.http import Connection, Handler
from loadtest.fake.state import Behaviour, Engine, Totals
from loadtest.fake.stepper import Job, Stepper
from loadtest.fake.templates import Template

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends a reset."""
_LONGEST_ID = 256


class Fast:
    """What all fast connections share."""

    def __init__(self, engine: Engine, totals: Totals, book: Book, seed: int) -> None:
        self.engine = engine
        self.totals = totals
        self.book = book
        self.stepper = Stepper(engine, totals)
        self.dice = random.Random(seed)
        self.ids = map(b"%016x".__mod__, itertools.count())
        """For calls that bring no request id."""

    def connect(self, handle: Handler, connections: set[Connection]) -> Connection:
        """A connection for `loadtest.fake.http.listen`."""
        return FastConnection(self, handle, connections)


class FastConnection(Connection):
    """One client of the fast mode: one answer at a time."""

    def __init__(self, fast: Fast, handle: Handler, connections: set[Connection]) -> None:
        super().__init__(handle, connections)
        self._fast = fast
        self._write: Callable[[bytes], None] = _nowhere
        self._pending = b""
        self._job: Job | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        if self._job is not None:
            self._pending += data
        elif self.idle:
            self._take(self._pending + data if self._pending else data)
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._job is not None:
            self._close_job(self._job)
            self._fast.totals.client_closed += 1
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        if self._job is not None:
            self._fast.stepper.remove(self._job)
        super().pause_writing()

    def resume_writing(self) -> None:
        if self._job is not None and self._job.left and self._timer is None:
            self._fast.stepper.add(self._job)
        super().resume_writing()

    def finished(self) -> None:
        """The whole answer is written: the next request's turn."""
        job = cast(Job, self._job)
        if job.breaks:
            # What was just written goes out first.
            asyncio.get_running_loop().call_soon(self._reset)
            return
        self._close_job(job)
        self._fast.totals.answered += 1
        if self._pending:
            self._take(self._pending)

    def _take(self, data: bytes) -> None:
        """Answer the requests in `data`, as far as they go."""
        self._pending = b""
        while data:
            if self._job is not None:
                self._pending = data
                return
            request = read_hot(data)
            if request is None and may_become_hot(data):
                self._pending = data
                return
            if request is None or not self._answer(request):
                super().data_received(data)
                return
            data = data[request.end :]

    def _answer(self, request: HotRequest) -> bool:
        """Begin, and mostly end, the answer; False where it is not for the fast mode."""
        fast = self._fast
        request_id = request.request_id or next(fast.ids)
        if len(request_id) > _LONGEST_ID:
            return False
        template = fast.book.find(request.route, request.body, len(request_id))
        if template is None:
            return False
        fast.totals.calls += 1
        filling = template.filling(request_id, int(time.time()))
        behaviour = fast.engine.behaviour
        if behaviour.reset_share and fast.dice.random() < behaviour.reset_share:
            self._answer_broken(template, filling, behaviour)
        elif template.streamed:
            take = map(filling.join, template.writes).__next__
            self._start(take, len(template.writes), template.choices, behaviour.first_token_time_s)
        else:
            self._answer_plain(template, filling, behaviour)
        return True

    def _answer_plain(self, template: Template, filling: bytes, behaviour: Behaviour) -> None:
        totals, whole = self._fast.totals, filling.join(template.writes[0])
        time_s = behaviour.first_token_time_s + (template.pieces - 1) * behaviour.token_time_s
        if time_s or self._fast.engine.loading:
            self._start(iter([whole]).__next__, 1, template.pieces * template.choices, time_s)
            return
        self._write(whole)
        totals.answered += 1
        totals.writes += 1
        totals.tokens_sent += template.pieces * template.choices

    def _answer_broken(self, template: Template, filling: bytes, behaviour: Behaviour) -> None:
        """Begin an answer that a reset will break off at any of its steps, or before the first."""
        pieces = [filling.join(parts) for parts in template.writes]
        # At most all but the end, so that no client can take it for whole.
        pieces = pieces[:-1] if template.streamed else [pieces[0][: len(pieces[0]) // 2]]
        sent = self._fast.dice.randrange(len(pieces) + 1)
        pieces = pieces[:sent] or [b""]
        tokens = template.choices if template.streamed and sent else 0
        self._start(
            iter(pieces).__next__, len(pieces), tokens, behaviour.first_token_time_s, breaks=True
        )

    def _start(
        self,
        take: Callable[[], bytes],
        left: int,
        tokens: int,
        delay_s: float,
        *,
        breaks: bool = False,
    ) -> None:
        """Hand an answer of `left` pieces to the stepper after `delay_s`."""
        self._job = Job(self, self._write, take, left, tokens, breaks=breaks)
        self._fast.totals.open += 1
        if delay_s:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._run, self._job)
        else:
            self._run(self._job)

    def _run(self, job: Job) -> None:
        self._timer = None
        self._fast.stepper.add(job)

    def _close_job(self, job: Job) -> None:
        self._job = None
        self._fast.totals.open -= 1
        self._fast.stepper.remove(job)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _reset(self) -> None:
        if self._job is None or self.transport is None:
            return
        self._close_job(self._job)
        self._fast.totals.reset += 1
        with socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno())) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


def _nowhere(data: bytes) -> None:
    """Before there is a connection."""
