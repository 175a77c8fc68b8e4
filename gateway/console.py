"""What `loraplex serve` prints: the children's lines, its own, and how far the start has come.

Everything goes to standard output but failures, which go to standard error. On a terminal the
children's lines carry a coloured prefix; elsewhere the gateway's JSON lines go out as they came,
so that a log collector can parse them.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console as RichConsole
from rich.status import Status
from rich.table import Table
from rich.text import Text

from gateway.launch import Choice

_STYLES = {"engine": "cyan", "gateway": "magenta", "model": "yellow"}
_PREFIX_WIDTH = 7
# Colours and cursor movements of a child must not reach the operator's terminal.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_PROGRESS_EVERY_S = 10.0


class Console:
    """Standard output and error of the supervisor."""

    def __init__(
        self,
        out: RichConsole | None = None,
        err: RichConsole | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out or RichConsole(highlight=False)
        self._err = err or RichConsole(stderr=True, highlight=False)
        self._clock = clock
        self._status: Status | None = None
        self._said_at_s = clock()

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches."""
        return self._out.is_terminal

    def child_line(self, name: str, line: str) -> None:
        """A line that a child wrote."""
        if not self.is_terminal and name == "gateway" and line.startswith("{"):
            self.say(line)
            return
        prefix = (f"{name:<{_PREFIX_WIDTH}} | ", _STYLES.get(name, ""))
        self._print(Text.assemble(prefix, _CONTROL.sub("", line)))

    def say(self, text: str, style: str = "") -> None:
        """A line of the supervisor's own."""
        self._print(Text(text, style))

    def warn(self, text: str) -> None:
        """Something the operator should look at, though the start goes on."""
        self._print(Text.assemble(("warning: ", "bold yellow"), text), self._err)

    def fail(self, text: str) -> None:
        """Why the command ends."""
        self.end_progress()
        self._print(Text.assemble(("error: ", "bold red"), text), self._err)

    def tail(self, lines: Sequence[str]) -> None:
        """The last lines of a child that failed."""
        if lines:
            self._print(Text("Its last lines:"), self._err)
        for line in lines:
            self._print(Text(f"  {_CONTROL.sub('', line)}", "dim"), self._err)

    def choices(self, choices: Sequence[Choice]) -> None:
        """What was chosen for vLLM, and why."""
        if not self.is_terminal:
            for choice in choices:
                self.say(f"vLLM {choice.name}: {choice.value} ({choice.why})")
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("vLLM's flag", "value", "why"):
            table.add_column(column, overflow="fold")
        for choice in choices:
            table.add_row(Text(choice.name), Text(choice.value), Text(choice.why, "dim"))
        self._out.print(table)

    def progress(self, what: str, since_s: float) -> None:
        """How long something has taken: in place on a terminal, else a line every ten seconds."""
        now_s = self._clock()
        text = f"{what} ({now_s - since_s:.0f} s)"
        if self.is_terminal:
            if self._status is None:
                self._status = self._out.status(Text(text))
                self._status.start()
            self._status.update(Text(text))
        elif now_s - self._said_at_s >= _PROGRESS_EVERY_S:
            self._said_at_s = now_s
            self.say(text)

    def end_progress(self) -> None:
        """What was waited for is there, or will not be."""
        self._said_at_s = self._clock()
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _print(self, text: Text, to: RichConsole | None = None) -> None:
        console = to or self._out
        try:
            if console.is_terminal:
                console.print(text, soft_wrap=True)
            else:
                # Rich takes 0.2 ms a line, and the gateway logs a line a request.
                console.file.write(f"{text.plain}\n")
                console.file.flush()
        except OSError:
            _discard(console)


def _discard(console: RichConsole) -> None:
    """Whoever read the output has gone; the children are served on all the same."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), console.file.fileno())
