"""Times as a person writes them: `12h`, `30d`, `2031-01-31`, `2031-01-31T12:00+01:00`."""

import re
from datetime import UTC, datetime, timedelta

from loraplex.errors import UsageError

_LENGTH = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_length(text: str, option: str) -> timedelta:
    """A length of time. option: for the message of the UsageError."""
    found = _length(text)
    if found is None:
        raise UsageError(f"{option}: {text!r} is no length of time; write it like 30s, 12h or 30d")
    return found


def parse_moment(text: str, option: str, now: datetime) -> datetime:
    """A moment, or a length from now. Without a time zone it is UTC. Raises UsageError."""
    try:
        if (length := _length(text)) is not None:
            return (now + length).replace(microsecond=0)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option}: {text!r} is no time; write it like 30d, 2031-01-31 or 2031-01-31T12:00Z"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _length(text: str) -> timedelta | None:
    match = _LENGTH.fullmatch(text)
    if match is None:
        return None
    try:
        return timedelta(seconds=int(match[1]) * _UNITS_S[match[2]])
    except OverflowError:
        return None
