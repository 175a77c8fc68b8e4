"""Ctrl-C and a plain kill end a benchmark in order: what was started is stopped, what was measured
is written.
"""

import contextlib
import signal
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def take_as_ctrl_c() -> None:
    """Both raise KeyboardInterrupt from now on, also in the background of a script."""
    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler)


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """For code that takes the signals for itself and leaves them at the system's default."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
