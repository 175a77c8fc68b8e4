"""How long prompts, answers and pauses are: the laws, and numbers drawn from them.

Each may be written as a number (`512`) or a text (`normal:512,64`, `lognormal:mean=512,sd=300`,
`uniform:100,500`, `file:lengths.csv,column=prompt`).
"""

import math
from array import array
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, Self, assert_never

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from loadtest.workload.errors import RowError, WorkloadError
from loadtest.workload.files import RowFile, one_column
from loadtest.workload.part import Part
from loadtest.workload.portable import exp, log
from loadtest.workload.randomness import exponential, normal

_FORMS = (
    "a number, uniform:LOW,HIGH, normal:MEAN,SD, lognormal:MEAN,SD, exponential:MEAN or file:PATH"
)


class Fixed(Part):
    """Always the same."""

    kind: Literal["fixed"] = "fixed"
    value: float = Field(ge=0)


class Uniform(Part):
    """Each from `low` to `high` as likely as any other; both may come."""

    kind: Literal["uniform"] = "uniform"
    low: float = Field(ge=0)
    high: float = Field(ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low: {self.low:g} is above high ({self.high:g})")
        return self


class _Clipped(Part):
    """What falls outside `min` and `max` is moved to the bound."""

    mean: float = Field(gt=0)
    sd: float = Field(ge=0)
    """The standard deviation of the lengths themselves, before they are clipped."""
    min: float | None = Field(default=None, ge=0)
    max: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min: {self.min:g} is above max ({self.max:g})")
        return self


class Normal(_Clipped):
    """The bell curve."""

    kind: Literal["normal"] = "normal"


class LogNormal(_Clipped):
    """Many short, a few very long: what real prompts look like."""

    kind: Literal["lognormal"] = "lognormal"


class Exponential(Part):
    """For pauses: how long one waits for something that may come at any moment."""

    kind: Literal["exponential"] = "exponential"
    mean: float = Field(gt=0)
    max: float | None = Field(default=None, gt=0)


class Column(Part):
    """Drawn from the numbers in a CSV, JSONL or text file, each row as likely as any other.

    Where prompts and answers name the same file, both numbers are of the same row.
    """

    kind: Literal["file"] = "file"
    path: Path
    column: str | None = None
    """May be left out where the file has one column."""


Law = Fixed | Uniform | Normal | LogNormal | Exponential | Column
_LAWS: dict[str, type[Law]] = {
    "fixed": Fixed,
    "uniform": Uniform,
    "normal": Normal,
    "lognormal": LogNormal,
    "exponential": Exponential,
    "file": Column,
}


def parse_law(value: Any) -> Any:
    """A law's fields from its short forms; anything else as it is. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    if not isinstance(value, str):
        return {"kind": "fixed", "value": value}
    kind, colon, rest = value.partition(":")
    if not colon:
        return {"kind": "fixed", "value": _number(value)}
    if kind not in _LAWS:
        raise ValueError(f"`{value}` does not fit; give {_FORMS}")
    names = [name for name in _LAWS[kind].model_fields if name != "kind"]
    return {"kind": kind} | _arguments(value, rest.split(","), names)


def _arguments(text: str, parts: list[str], names: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for place, part in enumerate(parts):
        name, equals, given = part.partition("=")
        if not equals:
            if place >= len(names):
                raise ValueError(f"`{text}` has too many parts; they are {', '.join(names)}")
            name, given = names[place], part
        if name not in names:
            raise ValueError(f"`{text}`: no `{name}` here; the parts are {', '.join(names)}")
        found[name] = given
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"`{text}` does not fit; give {_FORMS}") from None


def _whole(law: Law) -> Law:
    """Bounds of tokens are whole numbers, and there is no prompt of none."""
    for name in ("value", "low", "high", "min", "max"):
        bound = getattr(law, name, None)
        if bound is not None and (bound < 1 or bound != int(bound)):
            raise ValueError(f"{name}: {bound:g} does not fit; give a whole number from 1")
    return law


_Tagged = Annotated[Law, Field(discriminator="kind")]
Length = Annotated[_Tagged, AfterValidator(_whole), BeforeValidator(parse_law)]
"""Whole numbers from 1: tokens, turns."""
Seconds = Annotated[_Tagged, BeforeValidator(parse_law)]
"""Times, not rounded."""


def length_draw(law: Law) -> Callable[[Random], int]:
    """Draws whole numbers from 1. Raises WorkloadError for a file that cannot be used."""
    if isinstance(law, Uniform):
        low, many = int(law.low), int(law.high) - int(law.low) + 1
        return lambda rng: low + int(rng.random() * many)
    if isinstance(law, Column):
        values = _read_numbers(law, whole=True)
        return lambda rng: int(values[int(rng.random() * len(values))])
    draw = seconds_draw(law)
    return lambda rng: max(1, round(draw(rng)))


def seconds_draw(law: Law) -> Callable[[Random], float]:
    """Draws numbers from 0. Raises WorkloadError for a file that cannot be used."""
    match law:
        case Fixed(value=value):
            return lambda _: value
        case Uniform(low=low, high=high):
            return lambda rng: low + rng.random() * (high - low)
        case Normal():
            return _clipped(law, lambda rng: law.mean + law.sd * normal(rng))
        case LogNormal():
            return _clipped(law, _lognormal(law))
        case Exponential(mean=mean, max=most):
            return lambda rng: min(mean * exponential(rng), most or math.inf)
        case Column():
            values = _read_numbers(law, whole=False)
            return lambda rng: values[int(rng.random() * len(values))]
        case _:
            assert_never(law)


def _clipped(law: _Clipped, draw: Callable[[Random], float]) -> Callable[[Random], float]:
    low, high = law.min or 0.0, math.inf if law.max is None else law.max
    return lambda rng: min(max(draw(rng), low), high)


def _lognormal(law: LogNormal) -> Callable[[Random], float]:
    relative = law.sd / law.mean
    variance = log(1 + relative * relative)
    mu, sigma = log(law.mean) - variance / 2, math.sqrt(variance)
    return lambda rng: exp(mu + sigma * normal(rng))


def _read_numbers(law: Column, *, whole: bool) -> "array[float]":
    values = array("d")
    for row in RowFile(law.path).rows():
        name = one_column(law.path, law.column, row.fields)
        values.append(_checked(law.path, row.line, name, row.fields[name], whole=whole))
    if not values:
        raise WorkloadError(f"{law.path.name}: holds no number")
    return values


def _checked(path: Path, line: int, name: str, given: object, *, whole: bool) -> float:
    try:
        value = float(given)  # type: ignore[arg-type]  # what it cannot take, it refuses
    except (TypeError, ValueError):
        raise RowError(path, line, f"`{name}` is not a number: `{given}`"[:120]) from None
    least, wanted = (1, "a whole number from 1") if whole else (0, "a number from 0")
    if not math.isfinite(value) or value < least or (whole and value != int(value)):
        raise RowError(path, line, f"`{name}` is {given}; give {wanted}")
    return value
