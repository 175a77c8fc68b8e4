"""A clock for the load tester's tests: it stands until nothing is left to do, then jumps."""

import asyncio
import heapq
import itertools
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest.client.client import Call
from loadtest.client.reply import Reply
from loadtest.client.said import Said

_QUIET_TURNS = 30
"""After so many turns of the event loop without a new call, nobody works any more."""


@dataclass
class Due:
    """A call to come."""

    callback: Callable[[], object] | None

    def cancel(self) -> None:
        self.callback = None


class FakeClock:
    """jumps: false stands still until `advance`."""

    def __init__(self, *, jumps: bool = True) -> None:
        self.time_s = 100.0
        self._jumps = jumps
        self._order = itertools.count()
        self._calls: list[tuple[float, int, Due]] = []
        self._alarm = Due(None)
        self._quiet = 0
        self._looking = False

    def now(self) -> float:
        return self.time_s

    def call_at(self, at_s: float, callback: Callable[[], object]) -> Due:
        due = Due(callback)
        heapq.heappush(self._calls, (at_s, next(self._order), due))
        self._quiet = 0
        if self._jumps and not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look)
        return due

    def alarm_at(self, at_s: float, callback: Callable[[], object]) -> None:
        self._alarm.cancel()
        self._alarm = self.call_at(at_s, callback)

    def close(self) -> None:
        self._alarm.cancel()

    def advance(self, seconds: float) -> None:
        """Makes all calls of that time, in order."""
        end_s = self.time_s + seconds
        while self._calls and self._calls[0][0] <= end_s:
            self._next()
        self.time_s = end_s

    def _look(self) -> None:
        self._quiet += 1
        if self._quiet > _QUIET_TURNS:
            self._quiet = 0
            while self._calls and self._calls[0][2].callback is None:
                heapq.heappop(self._calls)
            if self._calls:
                self._next()
        self._looking = bool(self._calls)
        if self._looking:
            asyncio.get_running_loop().call_soon(self._look)

    def _next(self) -> None:
        at_s, _, due = heapq.heappop(self._calls)
        self.time_s = max(self.time_s, at_s)
        callback, due.callback = due.callback, None
        if callback is not None:
            callback()


@dataclass
class FakeClient:
    """Answers each call after `takes_s` of the fake clock, with an event at half the time."""

    clock: FakeClock
    takes_s: float | Callable[[Call], float] = 1.0
    outcome: Callable[[Call], str] = lambda call: "ok"
    calls: list[tuple[float, Call]] = field(default_factory=list)
    """With the moments they came at."""
    most: int = 0
    under_way: int = 0

    async def ask(self, call: Call) -> Reply:
        sent_s = self.clock.now()
        self.calls.append((sent_s, call))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        takes_s = self.takes_s(call) if callable(self.takes_s) else self.takes_s
        done = asyncio.get_running_loop().create_future()
        self.clock.call_at(sent_s + takes_s, lambda: done.set_result(None))
        await done
        self.under_way -= 1
        outcome = self.outcome(call)
        reply = Reply(outcome, sent_s, self.clock.now(), 200)  # type: ignore[arg-type]
        reply.times = array("d", [sent_s + takes_s / 2, sent_s + takes_s])
        reply.said = Said(f"answer {len(self.calls)}", ("three words here",))
        return reply
