"""Open loop: every request is sent at its intended time, whatever is still under way."""

import asyncio
from collections import deque
from collections.abc import Iterator

from loadtest.running.sending import Sender, body_of
from loadtest.samples import Planned

READY = 64
"""So many are made ready before their time: making a long prompt takes longer than sending it."""
_SPARE_S = 0.005
"""Nothing is made ready when a request is due so soon."""
_AHEAD_S = 0.02
"""A request's task begins so long before its time. Begun when it is due, it would have to wait for
a second turn of the event loop, whose reads take milliseconds where there are many streams."""
_AT_ONCE = 8
"""After so many sent without a pause, what has come is read."""

Ready = tuple[list[Planned], bytes | None]


async def open_loop(sessions: Iterator[list[Planned]], sender: Sender, end_s: float | None) -> None:
    """Sends what is due until the sessions or the time are over, or the run is stopped; then
    waits for the answers. sessions: in time order."""
    timetable, ready = sender.timetable, _Ready(sessions)
    together = 0
    async with asyncio.TaskGroup() as tasks:
        while (turns_and_body := ready.take()) is not None:
            turns, body = turns_and_body
            at_s = turns[0].at_s or 0.0
            if end_s is not None and at_s >= end_s:
                return
            while at_s - timetable.now() > _SPARE_S and ready.more():
                pass
            together = 0 if at_s > timetable.now() else together + 1
            if together >= _AT_ONCE:
                together = 0
                await asyncio.sleep(0)
            if not await timetable.until(at_s - _AHEAD_S):
                return
            tasks.create_task(_send(sender, turns, at_s, body, end_s))


async def _send(
    sender: Sender, turns: list[Planned], at_s: float, body: bytes | None, end_s: float | None
) -> None:
    if await sender.timetable.until(at_s):
        await sender.converse(turns, at_s, body, end_s)


class _Ready:
    """What comes next, some of it with its body."""

    def __init__(self, sessions: Iterator[list[Planned]]) -> None:
        self._sessions = sessions
        self._made: deque[Ready] = deque()

    def take(self) -> Ready | None:
        """The next; None after the last."""
        if not self._made:
            self.more()
        return self._made.popleft() if self._made else None

    def more(self) -> bool:
        """Makes one more ready. False where there are enough, or no more."""
        if len(self._made) >= READY:
            return False
        turns = next(self._sessions, None)
        if turns is None:
            return False
        self._made.append((turns, body_of(turns)))
        return True
