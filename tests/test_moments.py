"""Times as a person writes them on the command line."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from loraplex.errors import UsageError
from loraplex.moments import parse_length, parse_moment

NOW = datetime(2026, 1, 31, 12, 0, 0, 123456, UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", timedelta(0)),
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(weeks=2)),
    ],
)
def test_lengths(text: str, expected: timedelta) -> None:
    assert parse_length(text, "--overlap") == expected


@pytest.mark.parametrize("text", ["", "12", "h", "-1h", "1.5h", "1y", "12 h", "999999999w"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--overlap: "):
        parse_length(text, "--overlap")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1d", datetime(2026, 2, 1, 12, tzinfo=UTC)),
        ("2031-01-31", datetime(2031, 1, 31, tzinfo=UTC)),
        ("2031-01-31T12:30", datetime(2031, 1, 31, 12, 30, tzinfo=UTC)),
        ("2031-01-31T12:30Z", datetime(2031, 1, 31, 12, 30, tzinfo=UTC)),
        (
            "2031-01-31T12:30+01:00",
            datetime(2031, 1, 31, 12, 30, tzinfo=timezone(timedelta(hours=1))),
        ),
    ],
)
def test_moments(text: str, expected: datetime) -> None:
    assert parse_moment(text, "--expires", NOW) == expected


@pytest.mark.parametrize("text", ["", "soon", "2031-02-31", "31.01.2031", "9999d9"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--expires: "):
        parse_moment(text, "--expires", NOW)


def test_a_length_beyond_the_calendar() -> None:
    with pytest.raises(UsageError, match=r"^--expires: "):
        parse_moment("99999999w", "--expires", NOW)
