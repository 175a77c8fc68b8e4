"""Two threads beside the one that computes: one reads ahead, one writes behind, both in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, Self, TypeVar

AHEAD = 3
"""How many reads, and how many writes, may be under way or waiting."""

T = TypeVar("T")
B = TypeVar("B")
P = ParamSpec("P")


class Lanes:
    """As a context manager it waits at the end for what has begun, and drops what has not."""

    def __init__(self) -> None:
        self._reading = ThreadPoolExecutor(1, "merge-read")
        self._writing = ThreadPoolExecutor(1, "merge-write")
        self._writes: deque[Future[None]] = deque()

    def read_ahead(
        self, items: Iterable[B], reader: Callable[[B], Callable[[], T] | None]
    ) -> Iterator[tuple[B, T | None]]:
        """Each item with what its reader read; None where it has no reader.

        Readers that take turns with AHEAD + 1 places in memory keep an item's until the next item
        is asked for.
        """
        waiting: deque[tuple[B, Future[T] | None]] = deque()
        rest = iter(items)

        def ask() -> None:
            for item in rest:
                read = reader(item)
                waiting.append((item, None if read is None else self._reading.submit(read)))
                return

        for _ in range(AHEAD):
            ask()
        while waiting:
            item, future = waiting.popleft()
            found = None if future is None else future.result()
            ask()
            yield item, found

    def write(self, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Has it done after all before it; at most `AHEAD` wait. Raises what one of them raised."""
        while len(self._writes) >= AHEAD:
            self._writes.popleft().result()
        self._writes.append(self._writing.submit(step, *args, **kwargs))

    def settle(self) -> None:
        """Waits until all is written. Raises what a write raised."""
        while self._writes:
            self._writes.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.shutdown(cancel_futures=True)
        self._writing.shutdown(cancel_futures=True)
