"""Amounts as only the terminal writes them; all others are loadtest.report.formats'."""

import math

from loadtest.report.formats import NOTHING


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


def change(part: float | None) -> str:
    """Of a figure against another: `+12.3%`, `-0.4%`, `+250%`."""
    if part is None or not math.isfinite(part):
        return NOTHING
    text = f"{part:+.1%}" if abs(part) < 0.9995 else f"{part:+,.0%}"
    return "0.0%" if text in ("+0.0%", "-0.0%") else text
