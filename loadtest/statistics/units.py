"""Numbers with units, as options write them: 400ms, 1.5 s, 99 %."""

import difflib
import re
from collections.abc import Iterable

SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_NUMBER = re.compile(r"\s*([+]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(%|[a-zA-Zµ]*)\s*")


class StatisticsError(Exception):
    """An option that cannot be understood, or results that cannot be used; says what to do."""


def number(text: str, where: str) -> tuple[float, str]:
    """The number and its unit, "" where there is none. Raises StatisticsError."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise StatisticsError(f"{where}: `{text.strip()}` is not a number")
    return float(match[1]), match[2]


def seconds(text: str, where: str) -> float:
    """A duration. Raises StatisticsError where it has no unit that is known."""
    value, unit = number(text, where)
    if unit not in SECONDS:
        fault = f"does not know the unit `{unit}`" if unit else f"`{text.strip()}` has no unit"
        raise StatisticsError(f"{where}: {fault}; write {value:g}ms, {value:g}s or {value:g}us")
    return value * SECONDS[unit]


def share(text: str, where: str) -> float:
    """A share from 0 to 1, or in percent. Raises StatisticsError."""
    value, unit = number(text, where)
    if unit not in {"", "%"}:
        raise StatisticsError(f"{where}: is a share; write it as 0.01 or 1%")
    value = value / 100 if unit else value
    if value > 1:
        raise StatisticsError(f"{where}: {text.strip()} is more than all; write it as 0.01 or 1%")
    return value


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at what was meant: `; did you mean X?`, or "" where nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""
