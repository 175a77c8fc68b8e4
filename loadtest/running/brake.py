"""Ends a run early from one of its callbacks, in order."""

from collections.abc import Callable


class Brake:
    """Once pulled, nothing more is sent; what is under way gets `grace_s`, then it is cancelled.

    The run counts as completed: what made it pulled knows why.
    """

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.pulled = False
        self._stop: Callable[[], object] | None = None

    def pull(self) -> None:
        """Pulled again it does nothing."""
        if not self.pulled:
            self.pulled = True
            if self._stop is not None:
                self._stop()

    def attach(self, stop: Callable[[], object]) -> None:
        """What pulling calls; it is called now if the brake was pulled before the run."""
        self._stop = stop
        if self.pulled:
            stop()
