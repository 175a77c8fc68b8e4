"""What the command says besides its result: on stderr, so that stdout is the result's alone."""

import sys
import traceback
from typing import TYPE_CHECKING

from loadtest.report.formats import printable

if TYPE_CHECKING:
    from rich.console import Console


def note(text: str) -> None:
    """A remark."""
    _stderr().print(printable(text), markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Something to look at, though the command goes on."""
    _labelled("warning", "yellow", text)


def fail(text: str) -> None:
    """Why the command fails."""
    _labelled("error", "red", text)


def fail_with(fault: Exception) -> None:
    """Where the tester itself failed, but not the error's words: they may quote what a request
    held."""
    where = "".join(traceback.format_tb(fault.__traceback__)).rstrip()
    fail(f"the tester failed ({type(fault).__name__}); please report it:\n{where}")


def out(text: str) -> None:
    """The result, on stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _labelled(label: str, style: str, text: str) -> None:
    from rich.text import Text

    _stderr().print(Text.assemble((f"{label}: ", f"bold {style}"), printable(text)), soft_wrap=True)


def _stderr() -> "Console":
    from rich.console import Console

    return Console(stderr=True)
