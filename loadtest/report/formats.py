"""Figures as people read them: three digits and a unit, a dash for what is not there."""

import math

NOTHING = "-"
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_MINUTES_FROM_S = 120
_HOURS_FROM_S = 7200


def seconds(value: float | None) -> str:
    """A latency, as 1.24 s, 83.1 ms or 640 µs."""
    if value is None or math.isnan(value):
        return NOTHING
    if value <= 0:
        return "0 ms"
    size, unit = next((one for one in _UNITS if value >= one[0] * 0.9995), _UNITS[-1])
    return f"{digits(value / size)} {unit}"


def span(value: float | None) -> str:
    """How long something lasted, as 8.3 s, 4 min 10 s or 2 h 5 min."""
    if value is None:
        return NOTHING
    if value < _MINUTES_FROM_S:
        return f"{digits(value)} s"
    big, small, units = (60, 1, "min s") if value < _HOURS_FROM_S else (3600, 60, "h min")
    whole, rest = divmod(round(value / small), big // small)
    names = units.split()
    return f"{whole} {names[0]}" + (f" {rest} {names[1]}" if rest else "")


def number(value: float | None) -> str:
    """Three digits; all of them before the point."""
    return NOTHING if value is None else digits(value)


def share(value: float | None) -> str:
    """In percent; only none is 0%, and only all is 100%."""
    if value is None:
        return NOTHING
    if 0 < value < 0.0001:
        return "< 0.01%"
    if 0.9999 < value < 1:
        return "> 99.99%"
    places = 0 if value in (0, 1) else 2 if value < 0.01 or value > 0.99 else 1
    return f"{100 * value:.{places}f}%"


def money(value: float | None) -> str:
    """In the price's currency, with its cents."""
    if value is None:
        return NOTHING
    return f"{value:,.2f}" if value >= 1 else digits(value)


def count(value: int, what: str = "") -> str:
    """How many, with the noun: `1 request`, `1,200 requests`."""
    return f"{value:,}" + (f" {what}{'' if value == 1 else 's'}" if what else "")


def printable(text: str) -> str:
    """The text without marks that a terminal would obey, or nobody sees; lines stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def digits(value: float) -> str:
    """Three digits at least, those before the point always, no zeros at the end of a fraction."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, 2 - math.floor(math.log10(abs(value)) + 1e-12))
    shown = f"{value:,.{min(places, 6)}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown
