"""The fast engine's heart: one task that steps all running answers together, as a GPU does."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from loadtest.fake.state import Engine, Totals


class Sink(Protocol):
    """Who gets an answer: told when it is over, so that it can take the next request."""

    def finished(self) -> None: ...


class Job:
    """One answer on its way: what is left of it, and where it goes."""

    __slots__ = ("breaks", "left", "sink", "take", "tokens", "write")

    def __init__(
        self,
        sink: Sink,
        write: Callable[[bytes], None],
        take: Callable[[], bytes],
        left: int,
        tokens: int,
        *,
        breaks: bool = False,
    ) -> None:
        self.sink = sink
        self.write = write
        self.take = take
        """Yields what is sent at the next step."""
        self.left = left
        self.tokens = tokens
        """Tokens a step yields."""
        self.breaks = breaks
        """It ends by a reset instead of an end."""


class Stepper:
    """Sends a piece of every running answer, or several, a step; a piece each `token_time_s`."""

    def __init__(self, engine: Engine, totals: Totals) -> None:
        self._engine = engine
        self._totals = totals
        self._running: dict[Job, None] = {}
        self._busy = asyncio.Event()

    @property
    def running(self) -> int:
        """Answers that are neither held back nor over."""
        return len(self._running)

    def add(self, job: Job) -> None:
        """Take a job into the next step."""
        self._running[job] = None
        self._busy.set()

    def remove(self, job: Job) -> None:
        """Leave a job out from now on: its client reads too slowly, or has left."""
        self._running.pop(job, None)

    async def run(self) -> None:
        """Step until cancelled."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            await self._busy.wait()
            await self._engine.until(self._computes)
            behaviour, now_s = self._engine.behaviour, loop.time()
            period_s = behaviour.token_time_s * behaviour.tokens_at_once
            # A little lateness is made up for, so that the rate holds; a missed step is not.
            due_s = (due_s if now_s - due_s < period_s else now_s) + period_s
            self.step()
            if not self._running:
                self._busy.clear()
            await asyncio.sleep(due_s - loop.time())

    def step(self) -> None:
        """Send the next piece, or so many as go at once, of each running answer."""
        tokens = writes = 0
        most = self._engine.behaviour.tokens_at_once
        # A copy, since a write can hold its job back.
        for job in tuple(self._running):
            pieces = 1
            if most == 1:
                job.write(job.take())
            else:
                pieces = min(most, job.left)
                job.write(b"".join([job.take() for _ in range(pieces)]))
            tokens += job.tokens * pieces
            writes += 1
            job.left -= pieces
            if not job.left:
                self._running.pop(job, None)
                job.sink.finished()
        self._totals.tokens_sent += tokens
        self._totals.writes += writes

    def _computes(self) -> bool:
        return not self._engine.loading and not self._engine.behaviour.frozen
