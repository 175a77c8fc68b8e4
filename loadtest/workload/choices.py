"""Which of several: uniform, by Zipf's law, by weights, or each in turn."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, count
from random import Random
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from loadtest.workload.part import Part
from loadtest.workload.portable import exp, log

_FORMS = "uniform, zipf:EXPONENT, weights or round_robin"


class Evenly(Part):
    """Each as likely as any other."""

    kind: Literal["uniform"] = "uniform"


class Zipf(Part):
    """The one in place r of the list comes r^-exponent as often as the first."""

    kind: Literal["zipf"] = "zipf"
    exponent: float = Field(default=1.0, ge=0, le=20)


class Weights(Part):
    """Each as often as its `weight` says."""

    kind: Literal["weights"] = "weights"


class RoundRobin(Part):
    """Each in its turn."""

    kind: Literal["round_robin"] = "round_robin"


def parse_choice(value: Any) -> Any:
    """A choice's fields from its short forms, as `zipf:1.1`; anything else as it is."""
    if not isinstance(value, str):
        return value
    kind, colon, rest = value.partition(":")
    if kind not in {"uniform", "zipf", "weights", "round_robin"} or (colon and kind != "zipf"):
        raise ValueError(f"`{value}` does not fit; give {_FORMS}")
    return {"kind": kind, "exponent": rest} if colon else {"kind": kind}


Choice = Annotated[
    Annotated[Evenly | Zipf | Weights | RoundRobin, Field(discriminator="kind")],
    BeforeValidator(parse_choice),
]


def picker(choice: Choice, weights: Sequence[float]) -> Callable[[Random], int]:
    """Picks places in a list whose entries have these weights; at least one is above 0."""
    match choice:
        case Evenly():
            many = len(weights)
            return lambda rng: int(rng.random() * many)
        case RoundRobin():
            turns = count()
            return lambda _: next(turns) % len(weights)
        case Zipf(exponent=exponent):
            return _weighted([exp(-exponent * log(rank)) for rank in range(1, len(weights) + 1)])
        case Weights():
            return _weighted(weights)


def _weighted(weights: Sequence[float]) -> Callable[[Random], int]:
    bounds = list(accumulate(weights))
    total = bounds[-1]
    return lambda rng: bisect_right(bounds, rng.random() * total)
