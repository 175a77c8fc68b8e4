"""How amounts are written and drawn."""

import pytest

from loadtest.view import amounts
from loadtest.view.bars import bar, sparkline


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0.00 ms"),
        (0.000312, "0.31 ms"),
        (0.00999, "9.99 ms"),
        (0.009996, "10.0 ms"),
        (0.09996, "100 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (75.34, "75.3 s"),
        (12345.0, "12,345 s"),
    ],
)
def test_a_latency_has_three_digits(seconds: float | None, text: str) -> None:
    assert amounts.latency(seconds) == text


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
    ("per_s", "text"),
    [(None, "-"), (0, "0"), (0.0123, "0.012"), (1.2, "1.20"), (19.8, "19.8"), (12345.6, "12,346")],
)  # fmt: skip
def test_a_rate_has_about_three_digits(per_s: float | None, text: str) -> None:
    assert amounts.rate(per_s) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, "-"), (0.0, "0.00"), (0.00421, "0.0042"), (12.5, "12.50"), (1250.4, "1,250")],
)
def test_money_has_its_cents(amount: float | None, text: str) -> None:
    assert amounts.money(amount) == text


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (None, "-"),
        (0.0, "0%"),
        (1.0, "100%"),
        (0.982, "98.2%"),
        (0.9997, "99.97%"),
        (0.9999999, ">99.999%"),
        (0.0000001, "<0.001%"),
        (0.0004, "0.04%"),
    ],
)
def test_a_share_is_never_all_unless_it_is(part: float | None, text: str) -> None:
    assert amounts.share(part) == text


@pytest.mark.parametrize(
    ("part", "text"),
    [(None, "-"), (0.1234, "+12.3%"), (-0.00004, "0.0%"), (2.5, "+250%"), (float("inf"), "-")],
)
def test_a_change_has_its_sign(part: float | None, text: str) -> None:
    assert amounts.change(part) == text


def test_what_is_counted_is_one_or_many() -> None:
    assert [amounts.counted(n, "request") for n in (0, 1, 1200)] == [
        "0 requests",
        "1 request",
        "1,200 requests",
    ]
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
