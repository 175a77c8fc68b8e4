"""The one clock of a run: monotonic seconds, and calls at moments of it."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Handle(Protocol):
    """A call that is to come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Where the time comes from; tests bring their own."""

    def now(self) -> float:
        """Seconds from some moment in the past; never goes back."""
        ...

    def call_at(self, at_s: float, callback: Callable[[], object]) -> Handle:
        """Calls back at about that moment, a millisecond more or less: for timeouts."""
        ...


class MonotonicClock:
    """`time.perf_counter` and the running event loop's timers."""

    def __init__(self) -> None:
        self.now = time.perf_counter

    def call_at(self, at_s: float, callback: Callable[[], object]) -> Handle:
        delay_s = max(0.0, at_s - self.now())
        return asyncio.get_running_loop().call_later(delay_s, callback)
