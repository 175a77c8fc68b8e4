"""How amounts are written: about three digits, with their unit; what is not there is a dash."""

import math

NOTHING = "-"

_MS = 1000.0


def latency(seconds: float | None) -> str:
    """`0.31 ms`, `84.1 ms`, `512 ms`, `1.23 s`, `75.3 s`."""
    if seconds is None:
        return NOTHING
    ms = seconds * _MS
    return f"{_three_digits(ms)} ms" if ms < 999.5 else f"{_three_digits(seconds)} s"


def duration(seconds: float) -> str:
    """Of a person's patience: `45 s`, `1 min 15 s`, `2 h 5 min`."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def count(number: float) -> str:
    """A whole number: `12,345`."""
    return f"{round(number):,}"


def rate(per_s: float | None) -> str:
    """`0.0123`, `1.23`, `19.8`, `316`, `12,345`; without its unit."""
    if per_s is None:
        return NOTHING
    if per_s < 0.0995:
        return f"{per_s:.2g}"
    return _three_digits(per_s)


def money(amount: float | None) -> str:
    """In whatever currency the price was: `0.0042`, `0.42`, `12.50`, `1,250`."""
    if amount is None:
        return NOTHING
    if 0 < amount < 0.0995:
        return f"{amount:.2g}"
    return f"{amount:,.2f}" if amount < 999.5 else f"{amount:,.0f}"


def share(part: float | None) -> str:
    """`98.2%`; one that is not all is never written as all, one that is not nothing never as 0."""
    if part is None:
        return NOTHING
    if part in (0.0, 1.0):
        return f"{part:.0%}"
    for digits in (1, 2, 3):
        text = f"{part:.{digits}%}"
        if float(text[:-1]) not in (0.0, 100.0):
            return text
    return ">99.999%" if part > 0.5 else "<0.001%"


def change(part: float | None) -> str:
    """Of a figure against another: `+12.3%`, `-0.4%`, `+250%`."""
    if part is None or not math.isfinite(part):
        return NOTHING
    text = f"{part:+.1%}" if abs(part) < 0.9995 else f"{part:+,.0%}"
    return "0.0%" if text in ("+0.0%", "-0.0%") else text


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 request`, `1,200 requests`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _three_digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"
