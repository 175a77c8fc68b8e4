"""What `loraplex serve` prints, to people and to log collectors."""

import io
import subprocess
import sys

import pytest
from rich.console import Console as RichConsole

from gateway.console import Console
from gateway.launch import Choice


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def console(*, terminal: bool, clock: Clock | None = None) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    rich = RichConsole(file=out, force_terminal=terminal, width=60, highlight=False)
    return Console(rich, rich, clock or Clock()), out


def test_a_log_collector_gets_the_gateway_s_json_as_it_came() -> None:
    shown, out = console(terminal=False)
    shown.child_line("gateway", '{"event": "[bold]x[/]"}')
    shown.child_line("gateway", "Traceback")
    shown.child_line("engine", '{"not": "the gateway"}')
    assert out.getvalue() == (
        '{"event": "[bold]x[/]"}\ngateway | Traceback\nengine  | {"not": "the gateway"}\n'
    )


def test_a_terminal_gets_coloured_prefixes() -> None:
    shown, out = console(terminal=True)
    shown.child_line("gateway", '{"a": 1}')
    assert out.getvalue().startswith("\x1b[")
    assert 'gateway | \x1b[0m{"a": 1}' in out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_child_s_control_characters_are_left_out(terminal: bool) -> None:
    shown, out = console(terminal=terminal)
    shown.child_line("engine", "\x1b[2J\x1b[31mred\x07\x00 wine")
    assert "red wine\n" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
    assert "\x07" not in out.getvalue()


def test_a_long_line_stays_one_line() -> None:
    for terminal in (True, False):
        shown, out = console(terminal=terminal)
        shown.child_line("engine", "x" * 500)
        assert out.getvalue().count("\n") == 1


def test_progress_is_a_line_every_ten_seconds_without_a_terminal() -> None:
    clock = Clock()
    shown, out = console(terminal=False, clock=clock)
    for _ in range(30):
        shown.progress("starting", since_s=100)
        clock.now_s += 1
    assert out.getvalue() == "starting (10 s)\nstarting (20 s)\n"


def test_progress_stays_in_place_on_a_terminal() -> None:
    clock = Clock()
    shown, out = console(terminal=True, clock=clock)
    shown.progress("starting", since_s=90)
    shown.end_progress()
    shown.say("done")
    assert "starting (10 s)" in out.getvalue()
    assert out.getvalue().endswith("done\n")


@pytest.mark.parametrize("terminal", [True, False])
def test_choices_say_what_and_why(terminal: bool) -> None:
    shown, out = console(terminal=terminal)
    shown.choices([Choice("dtype", "float32", "no [bfloat16] here")])
    for part in ("dtype", "float32", "no [bfloat16] here"):
        assert part in out.getvalue()


def test_a_reader_that_goes_away_does_not_end_the_supervisor() -> None:
    program = (
        "import sys\n"
        "from gateway.console import Console\n"
        "console = Console()\n"
        "sys.stdin.read()\n"
        "for _ in range(1000): console.child_line('engine', 'x' * 1000)\n"
        "sys.stderr.write('went on')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b"went on"
        assert process.wait() == 0
