"""The run's own clock, whose alarms come within microseconds where event loops take milliseconds.

A request that is sent a millisecond late is measured a millisecond too slow.
"""

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Protocol

from loadtest.client.clock import Clock, Handle, MonotonicClock

_CLOCK_MONOTONIC = 1  # What perf_counter reads on Linux.
_ABSOLUTE = 1


class AlarmClock(Clock, Protocol):
    """A clock with one exact alarm."""

    def alarm_at(self, at_s: float, callback: Callable[[], object]) -> None:
        """Calls back at that moment; the alarm set before is forgotten."""
        ...

    def close(self) -> None:
        """No alarm comes any more."""
        ...


class PreciseClock(MonotonicClock):
    """Linux's timerfd where there is one, else the event loop's timers."""

    def __init__(self) -> None:
        super().__init__()
        self._timer = _TimerFd.make()
        self._callback: Callable[[], object] | None = None
        self._handle: Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def alarm_at(self, at_s: float, callback: Callable[[], object]) -> None:
        self._callback = callback
        if self._timer is None:
            if self._handle is not None:
                self._handle.cancel()
            self._handle = self.call_at(at_s, self._ring)
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._timer.fd, self._ring)
        self._timer.set(at_s)

    def close(self) -> None:
        self._callback = None
        if self._handle is not None:
            self._handle.cancel()
        if self._timer is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._timer.fd)
            self._timer.close()
            self._timer = None

    def _ring(self) -> None:
        if self._timer is not None:
            self._timer.clear()
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class _TimerFd:
    """A timer of the kernel that is read as a file. Python has it from 3.13 on."""

    def __init__(self, library: ctypes.CDLL, fd: int) -> None:
        self._library = library
        self.fd = fd

    @classmethod
    def make(cls) -> "_TimerFd | None":
        """None where the system has none."""
        if sys.platform != "linux":
            return None
        library = ctypes.CDLL(None, use_errno=True)
        fd = library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        return cls(library, fd) if fd >= 0 else None

    def set(self, at_s: float) -> None:
        at_ns = max(1, round(at_s * 1e9))  # 0 would switch it off.
        setting = _Setting(_Time(0, 0), _Time(*divmod(at_ns, 10**9)))
        if self._library.timerfd_settime(self.fd, _ABSOLUTE, ctypes.byref(setting), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def clear(self) -> None:
        """Reads how often it rang, so that it is not ready any more."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)
