"""A run shown while it goes, at next to no cost for the tester: `LiveView`."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from loadtest.report.formats import printable
from loadtest.running.phases import Phases
from loadtest.running.state import Progress
from loadtest.statistics.measured import Measured
from loadtest.view.frame import line, picture
from loadtest.view.painter import Painter
from loadtest.view.recent import Now, Recent, Stage

_NEWS_EVERY_S = 10.0
"""Between lines where they cannot be overwritten."""

_WIDEST = 100
"""Columns; a wider terminal makes nothing clearer."""


class LiveView:
    """Shows each progress it is told of: on a terminal a picture that is gone at the end, else a
    line now and then.

    In the event loop it only reads the figures, well under a millisecond; a thread paints.
    """

    def __init__(
        self,
        console: Console,
        measured: Measured,
        expected_s: float | None,
        expected_requests: float | None,
        title: str,
        *,
        phases: Phases | None = None,
    ) -> None:
        """measured: fed by the run in this process. expected_s, expected_requests: when the run
        ends and how many requests it has, as far as that is known. phases: as the run's options
        make them; None tells them from what was measured so far."""
        self._console = console
        self._title = printable(title)
        self._recent = Recent(measured, expected_s, expected_requests, phases)
        self._moving = console.is_terminal and not console.is_dumb_terminal
        self._said_s = 0.0
        self._said: Stage | None = None
        self._painter: Painter[Now] | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        paint: Callable[[Now], object] = self._print
        if self._moving:
            live = Live(console=self._console, auto_refresh=False, transient=True)
            self._open.enter_context(live)

            def paint(now: Now) -> None:
                live.update(
                    picture(now, self._title, min(self._console.width, _WIDEST)), refresh=True
                )

        else:
            self._console.print(Text(self._title), soft_wrap=True)
        self._painter = Painter(paint)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._painter is not None:
            self._painter.close()
        with suppress(OSError):  # The terminal is gone; what was measured is not.
            self._open.close()

    def progress(self, progress: Progress) -> None:
        """Takes what the run tells each second."""
        now = self._recent.now(progress)
        if self._painter is not None and (self._moving or self._is_news(now)):
            self._painter.show(now)

    def _is_news(self, now: Now) -> bool:
        """Whether it is worth a line: once in a while, and when the run begins to end."""
        ends = now.stage in ("waiting", "ending") and now.stage != self._said
        if not ends and now.at_s - self._said_s < _NEWS_EVERY_S:
            return False
        self._said_s, self._said = now.at_s, now.stage
        return True

    def _print(self, now: Now) -> None:
        self._console.print(Text(line(now)), soft_wrap=True)
