"""Short forms of load over time, as the command line has them, to the fields of stages."""

import math
from typing import Any

from loadtest.workload.errors import WorkloadError

_FORMS = "a number, steps as 5,10,20 or a ramp as 1..50; each may have its own time, as 10@30s"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_seconds(text: str, option: str) -> float:
    """`90`, `90s`, `500ms`, `1.5m` or `2h` in seconds. Raises WorkloadError that names `option`."""
    number = text.rstrip("smh")
    seconds = _number(number) * _UNITS.get(text[len(number) :] or "s", math.nan)
    if not (math.isfinite(seconds) and seconds > 0):
        raise WorkloadError(f"{option}: `{text}` is no time; give it as 90s, 500ms, 2m or 1h")
    return seconds


def parse_stages(text: str, what: str, seconds: float | None, option: str) -> list[dict[str, Any]]:
    """Fields of stages from `10`, `5,10,20`, `1..50`, `1..50@2m,50@5m` or, of rates, `inf`.

    what: `rate` or `users`. seconds: of each stage that names no time of its own; None: without
    an end. Raises WorkloadError that names `option`.
    """
    return [_stage(part.strip(), what, seconds, option) for part in text.split(",")]


def _stage(part: str, what: str, seconds: float | None, option: str) -> dict[str, Any]:
    load, at, own = part.partition("@")
    first, dots, last = load.partition("..")
    values = [_number(value) for value in ((first, last) if dots else (first,))]
    if any(math.isnan(value) or value < 0 for value in values):
        raise WorkloadError(f"{option}: `{part}` does not fit; give {_FORMS}")
    if what == "users" and any(not value.is_integer() for value in values):
        raise WorkloadError(f"{option}: `{part}`: users are whole numbers")
    stage: dict[str, Any] = {what: values[0]} | ({"to": values[1]} if dots else {})
    lasts = parse_seconds(own, option) if at else seconds
    # All at once takes no time.
    return stage if lasts is None or math.isinf(values[0]) else stage | {"seconds": lasts}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
