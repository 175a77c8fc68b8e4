"""A run shown while it goes: on a terminal, on a pipe, wide and narrow."""

import io
import re
import threading
from collections.abc import Iterator

import pytest
from rich.console import Console

from loadtest.running.phases import Phases
from loadtest.running.state import Progress
from loadtest.statistics.goodput import parse_slo
from loadtest.statistics.measured import Measured
from loadtest.view.frame import line, picture
from loadtest.view.live import LiveView
from loadtest.view.painter import Painter
from loadtest.view.recent import Now, Recent
from tests.load_engines import failed, sample
from tests.load_shown import shown

TITLE = "load test of http://127.0.0.1:8000"
PHASES = Phases(warmup_s=5.0, cooldown_from_s=50.0)
EMPTY_TABLE = """\
                         last 10 s           measured so far
               p50     p95     p99       p50     p95     p99
TTFT             -       -       -         -       -       -
ITL              -       -       -         -       -       -"""


class Run:
    """A run of one request a second, as a view sees it."""

    def __init__(
        self,
        slo: str | None = "ttft=500ms",
        expected_s: float | None = 60.0,
        expected_requests: float | None = None,
        phases: Phases | None = PHASES,
    ) -> None:
        self.measured = Measured(slo if slo is None else parse_slo(slo), rows=1000)
        cpu = iter(range(1000))
        self.recent = Recent(
            self.measured, expected_s, expected_requests, phases, lambda: next(cpu) * 0.25
        )
        self.sent = 0
        self.ended = 0

    def answer(self, at_s: float, ttft_s: float = 0.2) -> None:
        self.sent += 1
        self.ended += 1
        phase = PHASES.of(self.sent, at_s)
        self.measured.add(sample(self.sent, at_s, phase=phase, first_token_s=at_s + ttft_s))

    def fail(self, at_s: float) -> None:
        self.sent += 1
        self.ended += 1
        self.measured.add(failed(self.sent, at_s))

    def now(self, at_s: float, **changed: object) -> Now:
        return self.recent.now(Progress(at_s, self.sent, self.ended, **changed))  # type: ignore[arg-type]

    def seconds(self, begin: int, end: int, ttft_s: float = 0.2) -> Iterator[Now]:
        for second in range(begin, end):
            yield self.now(second)
            self.answer(second, ttft_s)


def test_before_anything_came() -> None:
    now = Run().now(-0.05)
    assert (
        shown(picture(now, TITLE, 80))
        == f"""\
{TITLE}                                       warm-up
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━   0%  0 s, 1 min left
sent 0  answered 0  failed 0  in flight 0
- sent/s  - answered/s  - output tokens/s
{EMPTY_TABLE}
tester    sends - late (p99)  CPU -"""
    )


def test_a_run_under_way_in_full() -> None:
    run = Run()
    list(run.seconds(0, 20))
    list(run.seconds(20, 30, ttft_s=0.6))
    run.fail(30.0)
    run.sent += 2
    assert (
        shown(picture(run.now(32.0), TITLE, 80))
        == f"""\
{TITLE}                                      measured
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  53%  32 s, 28 s left
sent 33  answered 30  failed 1  in flight 2
1.1 sent/s  0.8 answered/s  8.8 output tokens/s
                         last 10 s           measured so far
               p50     p95     p99       p50     p95     p99
TTFT        600 ms  600 ms  600 ms    200 ms  600 ms  600 ms
ITL          50 ms   50 ms   50 ms     50 ms   50 ms   50 ms
answers/s ████████████████████████████▁▁ 0, at most 1
TTFT p95  ▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃██████████   600 ms, at most 600 ms
SLO kept  57.7%
errors    http_503 1
tester    sends 0 ms late (p99)  CPU 20%"""
    )


def test_narrow_terminals_cut_lines_but_never_fold_them() -> None:
    run = Run()
    list(run.seconds(0, 30))
    now = run.now(30.0)
    assert shown(picture(now, TITLE, 60), 60).splitlines()[:6] == [
        "load test of http://127.0.0.1:8000                  measured",
        "━━━━━━━━━━━━━━━━━━━━━━━━━━  50%  30 s, 30 s left",
        "sent 30  answered 30  failed 0  in flight 0",
        "1 sent/s  1 answered/s  11 output tokens/s",
        "                         last 10 s           measured so far",
        "               p50     p95     p99       p50     p95     p99",
    ]
    narrow = shown(picture(now, TITLE, 30), 30).splitlines()
    assert narrow[0] == "load test of http:/…  measured"
    assert len(narrow) == len(shown(picture(now, TITLE, 80)).splitlines())


def test_the_last_seconds_are_told_apart_from_the_whole() -> None:
    run = Run()
    list(run.seconds(0, 40, ttft_s=0.1))
    *_, now = run.seconds(40, 51, ttft_s=0.4)
    assert (now.ttft_lately.count, now.ttft.count) == (10, 45)
    assert now.ttft_lately.p50 == pytest.approx(0.4, rel=0.004)
    assert now.ttft.p50 == pytest.approx(0.1, rel=0.004)
    assert (now.sent_per_s, now.answered_per_s, now.output_tokens_per_s) == (1.0, 1.0, 11.0)
    assert now.cpu_share == 0.25


def test_a_freeze_of_the_server_shows_at_once() -> None:
    run = Run()
    list(run.seconds(0, 10))
    run.sent += 20
    now = run.now(20.0)
    assert now.answers_by_time == [1.0] * 10 + [0.0] * 10
    assert now.answered_per_s == pytest.approx(1 / 11)
    assert (now.in_flight, now.ttft_by_time[-1]) == (20, None)


@pytest.mark.parametrize(
    ("at_s", "stage"),
    [(0.0, "warm-up"), (5.0, "measured"), (50.0, "cool-down"), (60.0, "waiting")],
)
def test_the_stage_goes_by_the_phases(at_s: float, stage: str) -> None:
    assert Run().now(at_s).stage == stage


def test_without_phases_the_stage_goes_by_what_was_measured() -> None:
    run = Run(phases=None)
    stages = [now.stage for now in run.seconds(0, 55)]
    assert stages == ["measured"] + ["warm-up"] * 5 + ["measured"] * 45 + ["cool-down"] * 4


def test_where_requests_end_the_run_they_tell_how_far_it_is() -> None:
    run = Run(expected_s=None, expected_requests=40.0)
    *_, now = run.seconds(0, 11)
    assert (now.part_done, now.left_s) == (0.25, 30.0)
    run.sent += 30
    assert run.now(11.0).stage == "waiting"


def test_time_goes_before_requests_which_sessions_make_more_of() -> None:
    run = Run(expected_requests=5.0)
    *_, now = run.seconds(0, 31)
    assert (now.part_done, now.left_s, now.stage) == (0.5, 30.0, "measured")


def test_a_run_without_an_end_only_tells_its_time() -> None:
    now = Run(expected_s=None).now(75.0)
    assert shown(picture(now, TITLE, 80)).splitlines()[1] == "1 min 15 s"


def test_an_interruption_says_what_is_under_way_and_what_cancels_it() -> None:
    run = Run()
    list(run.seconds(0, 10))
    run.sent += 56
    told = shown(picture(run.now(10.0, stopped=True), TITLE, 80)).splitlines()
    assert told[:2] == [
        "load test of http://127.0.0.1:8000    ending, 56 under way (Ctrl-C cancels them)",
        "10 s",
    ]


def test_what_is_waited_for_at_the_end() -> None:
    run = Run()
    list(run.seconds(0, 60))
    run.sent += 1200
    assert shown(picture(run.now(60.0), TITLE, 80)).splitlines()[:2] == [
        "load test of http://127.0.0.1:8000                     waiting for 1,200 answers",
        "━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 100%  1 min, 0 s left",
    ]


def test_one_line_tells_it_all() -> None:
    run = Run()
    list(run.seconds(0, 20))
    assert line(run.now(20.0)) == (
        "20 s measured; sent 20, answered 20, failed 0, in flight 0; 1 answers/s, 11 tokens/s;"
        " TTFT p95 200 ms; SLO 100%"
    )
    assert "SLO" not in line(Run(slo=None).now(1.0))


class Paper(io.StringIO):
    """Knows when a line has been written, by whatever thread."""

    def __init__(self) -> None:
        super().__init__()
        self._written = threading.Condition()

    def write(self, text: str) -> int:
        with self._written:
            self._written.notify_all()
            return super().write(text)

    def wait_for(self, lines: int) -> None:
        with self._written:
            assert self._written.wait_for(lambda: self.getvalue().count("\n") >= lines, 30)


class Screen:
    """A console on nothing, and a view on it."""

    def __init__(self, *, terminal: bool, no_color: bool = False) -> None:
        self.run = Run()
        self.file = Paper()
        self.console = Console(
            file=self.file,
            width=80,
            height=30,
            force_terminal=terminal,
            _environ={"NO_COLOR": "1"} if no_color else {},
        )
        self.view = LiveView(self.console, self.run.measured, 60.0, None, TITLE, phases=PHASES)

    def at(self, *moments: float, stopped: bool = False) -> None:
        for at_s in moments:
            progress = Progress(at_s, self.run.sent, self.run.ended, stopped)
            self.view.progress(progress)


def test_on_a_pipe_there_is_a_line_each_ten_seconds_and_one_when_it_ends() -> None:
    screen = Screen(terminal=False)
    with screen.view:
        screen.at(0.0, 1.0)
        screen.at(11.0)
        screen.file.wait_for(2)
        screen.at(12.0, 20.9)
        screen.run.sent += 3
        screen.at(20.95, stopped=True)
        screen.file.wait_for(3)
        screen.at(21.0, 22.0, stopped=True)
    assert screen.file.getvalue().splitlines() == [
        TITLE,
        "11 s measured; sent 0, answered 0, failed 0, in flight 0; 0 answers/s, 0 tokens/s;"
        " TTFT p95 -",
        "21 s ending, 3 under way (Ctrl-C cancels them); sent 3, answered 0, failed 0,"
        " in flight 3; 0 answers/s, 0 tokens/s; TTFT p95 -",
    ]


def test_on_a_terminal_the_picture_is_gone_at_the_end() -> None:
    screen = Screen(terminal=True)
    with screen.view:
        screen.at(7.0)
    text = screen.file.getvalue()
    assert "━━━━" in text
    assert "\x1b[32m" in text
    assert text.rstrip("\n").endswith("\x1b[1A\x1b[2K")


def test_a_terminal_that_can_only_print_gets_lines() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    with LiveView(console, Measured(), None, None, TITLE) as view:
        view.progress(Progress(11.0, 0, 0))
    assert isinstance(console.file, io.StringIO)
    assert len(console.file.getvalue().splitlines()) == 2


def test_no_color_is_kept_to() -> None:
    screen = Screen(terminal=True, no_color=True)
    with screen.view:
        screen.at(7.0)
    assert not re.search(r"\x1b\[[\d;]*3\d[;m]", screen.file.getvalue())
    assert TITLE in screen.file.getvalue()


def test_a_terminal_that_stands_still_holds_nothing_up() -> None:
    """Only the newest is painted once it moves again."""
    painted: list[int] = []
    begun, moves = threading.Event(), threading.Event()

    def paint(number: int) -> None:
        begun.set()
        moves.wait(30)
        painted.append(number)

    painter = Painter(paint)
    painter.show(0)
    assert begun.wait(30)
    for number in range(1, 5):
        painter.show(number)
    moves.set()
    painter.close()
    assert painted == [0, 4]


@pytest.mark.parametrize("error", [OSError("gone"), UnicodeEncodeError("ascii", "━", 0, 1, "no")])
def test_a_terminal_that_is_gone_ends_the_painting_alone(error: Exception) -> None:
    def paint(number: int) -> None:
        raise error

    painter = Painter(paint)
    painter.show(0)
    painter.show(1)
    painter.close()
