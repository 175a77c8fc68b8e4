"""The client: so many workers at once, each with a connection that it keeps, leaves or renews."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.soaking.answer import Answer, Garbled, problem
from benchmarks.soaking.books import ClientBooks
from benchmarks.soaking.gateway import CLIENT_S
from benchmarks.soaking.intake import Intake
from benchmarks.soaking.line import Line
from benchmarks.soaking.plan import SLOW_READERS, Pace, Planned, Stage
from benchmarks.soaking.wire import Request, Wire, tokens_of

_READ_BYTES = 65_536
_EVENT_BYTES = 200
"""About the size of one event, to leave a stream at any of its tokens."""
_EARLY = 16
"""Halts come in the first part of a stream: to a fast reader the kernel grants large buffers."""


@dataclass(frozen=True)
class Patience:
    """Seconds, and bytes."""

    answer_s: float = 120.0
    """Longest that a request may take: beyond it the gateway hangs."""
    bite_bytes: int = 4096
    bite_pause_s: float = 0.01
    halt_s: float = 1.0
    client_s: float = CLIENT_S
    """How long the gateway waits for a client that does not read."""
    silence_s: float = 12.0
    """How long a silent reader reads nothing: longer than that."""
    piece_pause_s: float = 0.01


class Worker:
    """Makes one request after the other."""

    def __init__(
        self, wire: Wire, address: tuple[str, int], books: ClientBooks, patience: Patience
    ) -> None:
        self._wire = wire
        self._address = address
        self._books = books
        self._patience = patience
        self.line: Line | None = None
        """What is kept for the next request."""

    async def do(self, planned: Planned) -> None:
        """Makes the request and writes down what came of it."""
        request = self._wire.request(planned)
        try:
            async with asyncio.timeout(self._patience.answer_s):
                await self._do(planned, request)
        except (OSError, Garbled) as error:  # TimeoutError is an OSError.
            self._books.note(type(error).__name__, f"{planned}: {error}")
            self.leave()

    def leave(self, *, reset: bool = False) -> None:
        """Ends the connection, if there is one."""
        if self.line is not None:
            self.line.close(reset=reset)
            self.line = None
            self._books.resets += reset

    async def _do(self, planned: Planned, request: Request) -> None:
        line = await self._connected(planned)
        answer, intake = Answer(), Intake(time.monotonic(), self._patience.client_s)
        if await self._ask(line, planned, request):
            await self._read(line, planned, answer, intake)
            self._settle(planned, request, answer, intake)
        if planned.leaves is not None:
            self.leave(reset=planned.resets)
        elif planned.pace in SLOW_READERS or not answer.keeps_alive:
            self.leave()

    async def _connected(self, planned: Planned) -> Line:
        small = planned.pace in SLOW_READERS
        if planned.renews or small:
            self.leave()
        if self.line is None:
            self.line = await Line.open(self._address, small=small)
            self._books.connections += 1
        return self.line

    async def _ask(self, line: Line, planned: Planned, request: Request) -> bool:
        """Sends the request, as far as it goes; whether an answer is waited for."""
        books, head, body = self._books, request.head, request.body
        if planned.leaves is Stage.IN_HEAD:
            await line.send(head[: _within(planned.where, len(head))])
            books.beginnings += 1
            return False
        books.requests += 1
        if planned.flaw is not None:
            books.refused[planned.flaw.value] += 1
        if planned.pace is not Pace.USUAL:
            books.paces[planned.pace.value] += 1
        if planned.leaves is not None:
            books.left[planned.leaves.value] += 1
        if planned.pace is Pace.SLOW_WRITER:
            await self._ask_slowly(line, head + body, planned.where)
        elif planned.leaves is Stage.IN_BODY:
            await line.send(head + body[: _within(planned.where, len(body)) - 1])
        else:
            await line.send(head + body)
        if planned.leaves in (Stage.IN_BODY, Stage.SENT):
            books.unanswered += 1
            return False
        return True

    async def _ask_slowly(self, line: Line, whole: bytes, where: float) -> None:
        """In three pieces, cut anywhere."""
        first = _within(where, len(whole) - 1)
        second = first + _within(1 - where, len(whole) - first)
        for piece in (whole[:first], whole[first:second], whole[second:]):
            await line.send(piece)
            await asyncio.sleep(self._patience.piece_pause_s)

    async def _read(self, line: Line, planned: Planned, answer: Answer, intake: Intake) -> None:
        """Takes the answer to its end, or to where it is left."""
        patience = self._patience
        leave_at = planned.where * tokens_of(planned) * _EVENT_BYTES
        slow = planned.pace is Pace.SLOW
        pause_s = {Pace.HALTING: patience.halt_s, Pace.SILENT: patience.silence_s}.get(planned.pace)
        while not answer.complete:
            data = await self._receive(line, planned, patience.bite_bytes if slow else _READ_BYTES)
            if not data:
                return
            answer.feed(data)
            intake.add(time.monotonic(), len(data))
            if self._leaves_now(planned, answer, leave_at):
                return
            if slow:
                await asyncio.sleep(patience.bite_pause_s)
            elif pause_s is not None and len(answer.body) >= leave_at / _EARLY:
                await asyncio.sleep(pause_s)
                pause_s = None

    async def _receive(self, line: Line, planned: Planned, most_bytes: int) -> bytes:
        """The next bytes; none where the gateway ended the connection."""
        try:
            return await line.receive(most_bytes)
        except ConnectionResetError:
            if planned.pace in SLOW_READERS:
                return b""
            raise

    def _leaves_now(self, planned: Planned, answer: Answer, leave_at: float) -> bool:
        if planned.leaves is Stage.AT_END:
            return answer.at_end(planned.route)
        return planned.leaves is Stage.IN_ANSWER and len(answer.body) >= leave_at

    def _settle(self, planned: Planned, request: Request, answer: Answer, intake: Intake) -> None:
        """Writes down how the answer ended."""
        books, request_id = self._books, answer.request_id.decode()
        if answer.complete:
            books.answered[request_id] = answer.final_status
            if wrong := problem(planned, answer, request.mark):
                books.note(wrong, f"{planned} {request_id}")
        elif answer.begun:
            books.begun.add(request_id)
        else:
            books.unanswered += 1
        if answer.complete or planned.leaves is not None:
            return
        if planned.pace in SLOW_READERS and intake.was_slow(time.monotonic()):
            books.cut_off[planned.pace.value] += 1
        else:
            books.note("the gateway closed the connection", f"{planned} {request_id}")
        self.leave()


class Crowd:
    """Workers that share a plan."""

    def __init__(
        self,
        wire: Wire,
        address: tuple[str, int],
        books: ClientBooks,
        patience: Patience,
        concurrency: int,
    ) -> None:
        self._workers = [Worker(wire, address, books, patience) for _ in range(concurrency)]

    @property
    def connections(self) -> int:
        """Open now."""
        return sum(worker.line is not None for worker in self._workers)

    async def follow(self, planned: Iterator[Planned], done: Callable[[], object]) -> None:
        """Makes all the requests; told of each that is done."""

        async def work(worker: Worker) -> None:
            for step in planned:
                await worker.do(step)
                done()

        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(work(worker))

    def leave(self) -> None:
        """Ends every connection that is kept."""
        for worker in self._workers:
            worker.leave()


def _within(where: float, size: int) -> int:
    """A place inside `size` bytes: from 1 to one less than all."""
    return 1 + int(where * (size - 1))
