"""Waits until moments of the run; a stop ends all waits."""

import asyncio
import heapq
import itertools

from loadtest.running.pacing import AlarmClock

_AT_ONCE = 8
"""After so many waits that are over, what has come is read."""


class Timetable:
    """Any number of waits on one alarm. Moments are seconds from the run's begin."""

    def __init__(self, clock: AlarmClock, begin_s: float) -> None:
        """begin_s: the clock's time at which the run begins."""
        self._clock = clock
        self._begin_s = begin_s
        self._order = itertools.count()
        self._waits: list[tuple[float, int, asyncio.Future[bool]]] = []
        self.stopped = False

    def now(self) -> float:
        """Seconds since the run's begin; below 0 before it."""
        return self._clock.now() - self._begin_s

    async def until(self, at_s: float) -> bool:
        """Waits until then, or not at all where that is past. False where the run was stopped."""
        if self.stopped or at_s <= self.now():
            return not self.stopped
        wait: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waits, (at_s, next(self._order), wait))
        if self._waits[0][2] is wait:
            self._set()
        return await wait

    def stop(self) -> None:
        """Every wait, now and later, is over."""
        self.stopped = True
        for _, _, wait in self._waits:
            if not wait.done():
                wait.set_result(False)
        self._waits.clear()

    def _ring(self) -> None:
        now_s, left = self._clock.now(), _AT_ONCE
        # Compared as the alarm was set: rounding must not make it ring for ever.
        while left and self._waits and self._begin_s + self._waits[0][0] <= now_s:
            left -= 1
            wait = heapq.heappop(self._waits)[2]
            if not wait.done():
                wait.set_result(True)
        if self._waits:
            self._set()

    def _set(self) -> None:
        self._clock.alarm_at(self._begin_s + self._waits[0][0], self._ring)
