"""`loraplex loadtest` and `python -m loadtest`: from the options to the exit code."""

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any

import typer

from loadtest.command.asked import PANELS, Asked
from loadtest.command.errors import INTERRUPTED, USAGE, CommandEnd
from loadtest.command.flags import as_command
from loadtest.command.saying import fail

_OPTION = {
    "warmup_s": "--warmup",
    "cooldown_s": "--cooldown",
    "keys_file": "--keys-file",
    "tokenizer": "--tokenizer",
}


def _loadtest(*groups: Any) -> None:
    """Load-test an OpenAI-compatible server, and see what it does to TTFT, ITL and throughput.

    With --url alone: one request a second for a minute, of 512 prompt tokens and 128 to answer.
    Latencies count from when a request should have been sent, not from when the tester got to it.
    docs/loadtest.md explains figures, files and CI. Exit code 0: done. 1: failed. 2: wrong
    options. 130: interrupted, with the report of what was run.
    """
    _write_any_name()
    # Not above: --help needs none of it, and it takes a second to load.
    from loadtest.client.target import TargetError
    from loadtest.command.course import course
    from loadtest.workload.errors import WorkloadError

    try:
        code = course(Asked(*groups))
    except CommandEnd as error:
        fail(str(error))
        code = error.exit_code
    except (WorkloadError, TargetError) as error:
        fail(as_options(str(error)))
        code = USAGE
    except KeyboardInterrupt:
        fail("interrupted; nothing was measured")
        code = INTERRUPTED
    raise typer.Exit(code)


loadtest = as_command(PANELS, _loadtest)


def _write_any_name() -> None:
    """A terminal that cannot show a letter gets `?`, and not a run its end."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def as_options(text: str) -> str:
    """What is wrong with a run, a line a fault; fields that are an option's alone by its name."""
    lines = (line.partition(":") for line in text.split("\n"))
    return "\n".join(_OPTION.get(name, name) + colon + rest for name, colon, rest in lines)


def main(args: Sequence[str] | None = None) -> None:
    """`python -m loadtest`; ends the process. args: those of the process unless given."""
    app = typer.Typer(
        add_completion=False, rich_markup_mode="markdown", pretty_exceptions_show_locals=False
    )
    app.command("loadtest", context_settings={"help_option_names": ["-h", "--help"]})(loadtest)
    app(args, prog_name="python -m loadtest")
