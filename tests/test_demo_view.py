"""How the demo looks on a pipe and on a terminal."""

import io
import re

from rich.console import Console

from loraplex.ask import Answer
from loraplex.demo_view import View


def piped() -> tuple[View, io.StringIO]:
    screen = io.StringIO()
    return View(Console(file=screen, width=80)), screen


def on_terminal() -> tuple[View, io.StringIO]:
    screen = io.StringIO()
    return View(Console(file=screen, width=80, force_terminal=True)), screen


def test_steps_are_numbered() -> None:
    view, screen = piped()
    view.step("First")
    view.step("Second")
    assert screen.getvalue() == "\n1. First\n\n2. Second\n"


def test_a_stream_breaks_between_words() -> None:
    view, screen = piped()
    with view.stream("acme/support") as show:
        for word in ["Hello", *[" wonderful"] * 12, "!", "\nA new line", " follows"]:
            show(word)
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("acme/support: Hello wonderful")
    assert lines[1].startswith("wonderful")
    assert lines[-1] == "A new line follows"


def test_text_of_models_is_no_markup() -> None:
    view, screen = piped()
    with view.stream("base") as show:
        show("[bold]")
    view.answers({"base": "[red]x[/red]", "acme": "y"})
    view.detail("[/x]")
    assert screen.getvalue().count("[") == 4


def test_timings_fit_with_the_longest_of_usual_names() -> None:
    view, screen = piped()
    answer = Answer("x", "globex/support@1:0123456789ab", 40, 12.5, 0.25)
    view.timings([("streamed", answer), ("plain", Answer("x", "base", 40, 10.0))])
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "3.2" in lines[1]
    assert "0.25 s" in lines[1]
    assert lines[2].split() == ["base", "plain", "-", "10.00", "s", "40", "4.0"]


def test_news_on_a_pipe_is_not_repeated() -> None:
    view, screen = piped()
    with view.waiting() as news:
        for _ in range(3):
            news("converting the model " + "x" * 100)
    assert screen.getvalue().count("converting the model") == 1
    assert len(screen.getvalue().rstrip("\n")) <= 80


def test_news_on_a_pipe_is_a_line_every_ten_seconds_at_most() -> None:
    screen, now_s = io.StringIO(), 100.0
    with View(Console(file=screen, width=80), lambda: now_s).waiting() as news:
        for second in range(25):
            news(f"starting the engine ({second} s)")
            now_s += 1
    assert re.findall(r"\((\d+) s\)", screen.getvalue()) == ["0", "10", "20"]


def test_news_on_a_terminal_moves_and_leaves_nothing() -> None:
    view, screen = on_terminal()
    with view.waiting() as news:
        news("converting the model")
    assert screen.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K")
