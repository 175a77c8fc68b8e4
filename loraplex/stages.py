"""Progress on stderr: each stage once, with its time, and how far the present one is."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from loraplex.output import size

_NEWS_EVERY_S = 30.0
"""Between lines about one stage where they cannot be overwritten."""

_STAGE = re.compile(r"(:? step \d|,).*")
"""What follows a stage's name."""

_WHOLE = 1.0
"""Of a stage that is told as a fraction."""

Clock = Callable[[], float]


class Stages:
    """Told of progress; says each stage once, with its time, and how far the present one is."""

    def __init__(self, console: Console, bar: Progress, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._bar = bar
        self._clock = clock
        self._stage: str | None = None
        self._began_s = 0.0
        self._said_s = 0.0
        self._found_bytes = 0
        self._task = bar.add_task("", total=None, visible=False)

    def __call__(self, text: str, fraction: float | None) -> None:
        """text: the stage, and behind a comma or its step what is known of it (loss, tokens/s)."""
        stage = _STAGE.sub("", text)
        if stage != self._stage:
            self.end()
            self._begin(stage)
        if self._console.is_terminal:
            self._bar.update(
                self._task, description=text, completed=fraction or 0.0, total=_total(fraction)
            )
        elif text != stage and self._clock() - self._said_s >= _NEWS_EVERY_S:
            self._said_s = self._clock()
            done = "" if fraction is None else f"{fraction:4.0%} "
            self._console.print(Text(f"  {done}{text}"), soft_wrap=True)

    def end(self) -> None:
        """The present stage is done."""
        if self._stage is not None and self._console.is_terminal:
            took = duration(self._clock() - self._began_s)
            self._console.print(Text.assemble(("✓ ", "green"), self._stage, (f"  {took}", "dim")))
        self._stage = None
        self._bar.update(self._task, visible=False)

    def moved(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        """As a call, of a stage that counts bytes. total_bytes: 0 where it does not."""
        if not total_bytes:
            self(stage, None)
            return
        if stage != self._stage:
            self(stage, None)
            # What was there before is no throughput.
            self._bar.reset(self._task, completed=done_bytes, total=total_bytes)
            self._found_bytes = done_bytes
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done_bytes, total=total_bytes)
        else:
            self(f"{stage}, {self._pace(done_bytes, total_bytes)}", done_bytes / total_bytes)

    def _pace(self, done_bytes: int, total_bytes: int) -> str:
        """`1.2 of 4.0 GiB, 310.0 MiB/s, 9 s left`."""
        told = f"{size(done_bytes)} of {size(total_bytes)}"
        took_s = self._clock() - self._began_s
        moved = done_bytes - self._found_bytes
        if took_s <= 0 or moved <= 0:
            return told
        left = duration((total_bytes - done_bytes) * took_s / moved)
        return f"{told}, {size(round(moved / took_s))}/s, {left} left"

    def _begin(self, stage: str) -> None:
        self._stage, self._began_s = stage, self._clock()
        self._said_s = self._began_s
        self._bar.reset(self._task, description=stage, visible=True, total=None)
        if not self._console.is_terminal:
            self._console.print(Text(stage), soft_wrap=True)


def _total(fraction: float | None) -> float | None:
    return None if fraction is None else _WHOLE


@contextmanager
def stages() -> Iterator[Stages]:
    """Shows progress on stderr while the block runs."""
    with _shown(
        BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn()
    ) as shown:
        yield shown


@contextmanager
def stages_with_bytes() -> Iterator[Stages]:
    """The same with bytes, throughput and time left, for work that moves bytes."""
    moved = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _shown(BarColumn(bar_width=20), *map(_WhereBytes, moved)) as shown:
        yield shown


@contextmanager
def _shown(*columns: ProgressColumn) -> Iterator[Stages]:
    console = Console(stderr=True)
    disable = not console.is_terminal
    every = (TextColumn("{task.description}", markup=False), *columns)
    with Progress(*every, console=console, transient=True, disable=disable) as bar:
        shown = Stages(console, bar)
        yield shown
        shown.end()


class _WhereBytes(ProgressColumn):
    """A column of bytes, empty beside a stage that counts none."""

    def __init__(self, inner: ProgressColumn) -> None:
        super().__init__()
        self._inner = inner

    def render(self, task: Task) -> RenderableType:
        """What rich shows."""
        return self._inner(task) if (task.total or 0) > _WHOLE else Text()


def duration(seconds: float) -> str:
    """`75` as `1 min 15 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
