"""Paints in a thread of its own: a terminal that stands still must not hold the load up."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Painter(Generic[_T]):
    """Paints the newest thing shown; what was shown while it painted, and is not the newest, it
    leaves out. A painting that fails is the last, and changes nothing else."""

    def __init__(self, paint: Callable[[_T], object]) -> None:
        self._paint = paint
        self._news = threading.Condition()
        self._newest: list[_T] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="view", daemon=True)
        self._thread.start()

    def show(self, thing: _T) -> None:
        """Returns at once."""
        with self._news:
            self._newest = [thing]
            self._news.notify()

    def close(self) -> None:
        """Waits until the newest is painted."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._newest or self._closed)
                if not self._newest:
                    return
                thing = self._newest.pop()
            try:
                self._paint(thing)
            except (OSError, ValueError):  # The terminal is gone, or cannot show a character.
                return
