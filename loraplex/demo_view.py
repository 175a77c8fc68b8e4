"""How the demo looks: headings, news of a wait, answers side by side, timings; 80 columns."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from loraplex.ask import Answer

_NEWS_EVERY_S = 10.0
"""Between lines of news where they cannot be overwritten."""


class View:
    """Prints the demo on a console; on a pipe the same without colours and moving parts."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._steps = 0

    def step(self, title: str) -> None:
        """The next step's heading."""
        self._steps += 1
        self._console.print(Text(f"\n{self._steps}. {title}", style="bold"))

    def say(self, text: str) -> None:
        """Text as it is; a long line is left for the terminal to break."""
        self._console.print(Text(text), soft_wrap=True)

    def detail(self, text: str) -> None:
        """An indented paragraph."""
        indent = " " * 3
        width = self._console.width
        lines = wrap(text, width, initial_indent=indent, subsequent_indent=indent + indent)
        self.say("\n".join(lines))

    @contextmanager
    def waiting(self) -> Iterator[Callable[[str], None]]:
        """Yields what takes the news of a long step."""
        if self._console.is_terminal:
            with self._console.status("starting") as status:
                yield lambda news: status.update(self._one_line(news))
        else:
            yield self._occasionally()

    def answers(self, texts: Mapping[str, str]) -> None:
        """Several models' answers to one question, side by side."""
        table = Table(expand=True)
        for label in texts:
            table.add_column(label, ratio=1, overflow="fold")
        table.add_row(*(Text(text.strip()) for text in texts.values()))
        self._console.print(table)

    @contextmanager
    def stream(self, label: str) -> Iterator[Callable[[str], None]]:
        """Yields what prints the pieces of an answer as they come, after the model's label."""
        self._console.print(Text(f"{label}: ", style="bold"), end="")
        column = len(label) + 2

        def show(piece: str) -> None:
            nonlocal column
            if column + len(piece) > self._console.width and piece[:1].isspace():
                piece, column = "\n" + piece.lstrip(), 0
            self._console.print(Text(piece), end="", soft_wrap=True)
            column = len(piece.rpartition("\n")[2]) + (0 if "\n" in piece else column)

        yield show
        self._console.print()

    def timings(self, rows: Iterable[tuple[str, "Answer"]]) -> None:
        """(plain or streamed, answer) as a table of what the client measured."""
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column("ANSWERED BY", overflow="fold")
        table.add_column("ASKED")
        for name in ("TTFT", "TOTAL", "TOKENS", "PER S"):
            table.add_column(name, justify="right")
        for how, answer in rows:
            table.add_row(
                answer.model,
                how,
                "-" if answer.ttft_s is None else f"{answer.ttft_s:.2f} s",
                f"{answer.total_s:.2f} s",
                str(answer.tokens),
                f"{answer.tokens_per_s:.1f}",
            )
        self._console.print(table)

    def _one_line(self, news: str) -> Text:
        text = Text(news)
        text.truncate(self._console.width - 4, overflow="ellipsis")
        return text

    def _occasionally(self) -> Callable[[str], None]:
        last, next_s = "", self._clock()

        def show(news: str) -> None:
            nonlocal last, next_s
            if news != last and self._clock() >= next_s:
                self._console.print(self._one_line(f"   {news}"))
                last, next_s = news, self._clock() + _NEWS_EVERY_S

        return show
