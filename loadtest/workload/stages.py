"""Load over time: stages of a rate or of a number of users, each steady or a straight ramp."""

import math
from collections.abc import Iterator, Sequence
from typing import Self, TypeVar

from pydantic import Field, model_validator

from loadtest.workload.part import Part


class RateStage(Part):
    """`rate` arrivals a second for `seconds`, or from `rate` in a straight line to `to`."""

    rate: float = Field(ge=0, allow_inf_nan=True)
    """`inf` sends all at once, as many as `requests` says."""
    to: float | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, gt=0)
    """The last stage may leave it out: it then lasts until `requests` have been sent."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if math.isnan(self.rate):
            raise ValueError("rate: nan does not fit; give a number from 0")
        if self.seconds is None and self.to is not None:
            raise ValueError("seconds: is missing; a ramp needs it")
        if self.seconds is None and self.rate == 0:
            raise ValueError("seconds: is missing; a rate of 0 without an end sends nothing")
        if math.isinf(self.rate) and (self.to is not None or self.seconds is not None):
            raise ValueError("rate: inf takes neither `to` nor `seconds`")
        return self

    @property
    def end_rate(self) -> float:
        """The rate that the stage ends with."""
        return self.rate if self.to is None else self.to

    @property
    def arrivals(self) -> float:
        """How many come in the mean; infinite for a stage without an end."""
        if self.seconds is None:
            return math.inf
        return (self.rate + self.end_rate) / 2 * self.seconds


class UserStage(Part):
    """`users` at work for `seconds`, or from `users` in a straight line to `to`."""

    users: int = Field(ge=0)
    to: int | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, gt=0)
    """The last stage may leave it out: it then lasts until `requests` have been sent."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.seconds is None and self.to is not None:
            raise ValueError("seconds: is missing; a ramp needs it")
        return self


Stages = Sequence[RateStage] | Sequence[UserStage]
_Stages = TypeVar("_Stages", tuple[RateStage, ...], tuple[UserStage, ...])


def check_ends(stages: _Stages) -> _Stages:
    """The same stages. Raises ValueError where one before the last has no end."""
    for place, stage in enumerate(stages[:-1]):
        if stage.seconds is None:
            raise ValueError(f"stage {place + 1} has no `seconds`; only the last may do without")
    return stages


def sweep(rates: Sequence[float], seconds: float) -> tuple[RateStage, ...]:
    """A step of `seconds` at each rate, one after the other."""
    return tuple(RateStage(rate=rate, seconds=seconds) for rate in rates)


def total_s(stages: Stages) -> float | None:
    """How long all of them last; None where the last has no end."""
    total = 0.0
    for stage in stages:
        if stage.seconds is None:
            return None
        total += stage.seconds
    return total


def rate_at(stages: Sequence[RateStage], at_s: float) -> float:
    """Arrivals a second at a moment; 0 after the end."""
    return _value_at([(stage.rate, stage.end_rate, stage.seconds) for stage in stages], at_s)


def users_at(stages: Sequence[UserStage], at_s: float) -> int:
    """How many users are at work at a moment, rounded down; 0 after the end."""
    values = [
        (stage.users, stage.users if stage.to is None else stage.to, stage.seconds)
        for stage in stages
    ]
    return math.floor(_value_at(values, at_s))


def most_users(stages: Sequence[UserStage]) -> int:
    """The highest number of users of any moment."""
    return max(max(stage.users, stage.to or 0) for stage in stages)


def moments(gaps: Iterator[float], stages: Sequence[RateStage]) -> Iterator[float]:
    """The seconds at which arrivals come. gaps: between arrivals of a process of rate 1.

    The rate stretches and squeezes that process's time (so ramps and steps are exact, without
    a seam): an arrival comes when the area under the rate reaches the sum of gaps. In constant
    memory; ends with the stages.
    """
    begin_s, passed, due = 0.0, 0.0, next(gaps)
    for stage in stages:
        area = stage.arrivals
        while due < passed + area:
            yield begin_s + _when(stage, due - passed)
            due += next(gaps)
        passed += area
        begin_s += stage.seconds or 0.0


def _when(stage: RateStage, area: float) -> float:
    """The second in the stage by which the area under its rate is `area`."""
    if math.isinf(stage.rate) or area == 0:
        return 0.0
    if stage.seconds is None or stage.end_rate == stage.rate:
        return area / stage.rate
    slope = (stage.end_rate - stage.rate) / stage.seconds
    # The root of rate * t + slope / 2 * t^2 = area that loses no digits where the slope is small.
    root = math.sqrt(max(0.0, stage.rate * stage.rate + 2 * slope * area))
    return min(2 * area / (stage.rate + root), stage.seconds)


def _value_at(stages: Sequence[tuple[float, float, float | None]], at_s: float) -> float:
    begin_s = 0.0
    for first, last, seconds in stages:
        if seconds is None:
            return first
        if at_s < begin_s + seconds:
            return first + (last - first) * ((at_s - begin_s) / seconds)
        begin_s += seconds
    return 0.0
