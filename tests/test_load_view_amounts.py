"""How amounts are written and drawn."""

import pytest

from loadtest.view import amounts
from loadtest.view.bars import bar, sparkline


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-0.05, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (75, "1 min 15 s"),
        (3599.7, "1 h"),
        (7500, "2 h 5 min"),
    ],
)
def test_a_duration_is_for_people(seconds: float, text: str) -> None:
    assert amounts.duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "text"),
    [(None, "-"), (0.1234, "+12.3%"), (-0.00004, "0.0%"), (2.5, "+250%"), (float("inf"), "-")],
)
def test_a_change_has_its_sign(part: float | None, text: str) -> None:
    assert amounts.change(part) == text


def test_what_is_counted_is_whole() -> None:
    assert amounts.count(12345.4) == "12,345"


def test_a_bar_is_as_full_as_its_share() -> None:
    assert [bar(part, 4) for part in (0.0, 0.5, 0.53, 1.0, 1.7, -1.0)] == [
        "    ",
        "██  ",
        "██▏ ",
        "████",
        "████",
        "    ",
    ]


def test_a_small_line_has_a_step_for_each_value() -> None:
    assert sparkline([0, 1, None, 3.5, 7]) == "▁▂ ▅█"
    assert sparkline([0.0, None, 0.0]) == "▁ ▁"
    assert sparkline([None]) == " "
    assert sparkline([]) == ""
