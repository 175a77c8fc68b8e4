"""How fast a reader took its answer: did it look to the gateway like one that reads no more?"""

from collections import deque

LEAST_BYTES = 131_072
"""A reader that takes less in the gateway's `client_s` may be cut off. The gateway asks for half of
that; the rest allows for what lies in the kernels' buffers."""


class Intake:
    """What was taken, and whether there was ever a span of `window_s` in which that was too little.

    What the kernels hold still comes after the gateway has ended the connection, so the latest
    seconds alone say nothing. Times are of any clock, but always the same one.
    """

    def __init__(self, began_s: float, window_s: float) -> None:
        self._window_s = window_s
        self._began_s = began_s
        self._taken: deque[tuple[float, int]] = deque()
        self._bytes = 0
        self._was_slow = False

    def add(self, now_s: float, size_bytes: int) -> None:
        """Notes what was taken."""
        self._look(now_s)
        self._taken.append((now_s, size_bytes))
        self._bytes += size_bytes

    def was_slow(self, now_s: float) -> bool:
        """Whether there was such a span until now."""
        self._look(now_s)
        return self._was_slow

    def _look(self, now_s: float) -> None:
        """At the span that ends now."""
        while self._taken and self._taken[0][0] < now_s - self._window_s:
            self._bytes -= self._taken.popleft()[1]
        if now_s - self._began_s >= self._window_s and self._bytes < LEAST_BYTES:
            self._was_slow = True
