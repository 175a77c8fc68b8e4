"""When requests come: open loop (Poisson, gamma bursts, constant, a trace) or closed loop."""

import math
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from random import Random
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from loadtest.workload.lengths import Fixed, Seconds
from loadtest.workload.part import Part
from loadtest.workload.randomness import exponential, gamma
from loadtest.workload.stages import RateStage, UserStage, check_ends, moments


class _OpenLoop(Part):
    stages: Annotated[tuple[RateStage, ...], AfterValidator(check_ends)] = Field(min_length=1)
    """One after the other. A rate counts arrivals: requests, or sessions where there are turns."""


class Poisson(_OpenLoop):
    """Independent users: exponential gaps."""

    kind: Literal["poisson"] = "poisson"


class Gamma(_OpenLoop):
    """Gamma gaps of the same mean, as `vllm bench serve --burstiness` has them."""

    kind: Literal["gamma"] = "gamma"
    burstiness: float = Field(gt=0, allow_inf_nan=True)
    """The gaps' shape: 1 is Poisson, below 1 comes in bursts, above 1 is more even, `inf` is
    constant. The gaps' coefficient of variation is 1 / sqrt(burstiness)."""


class Constant(_OpenLoop):
    """Equal gaps, the first arrival at the begin."""

    kind: Literal["constant"] = "constant"


class Columns(Part):
    """What the trace's columns are called. Left out: the usual names are looked for; "": the
    column is not used even if it is there."""

    timestamp: str | None = None
    tenant: str | None = None
    model: str | None = None
    prompt_tokens: str | None = None
    max_tokens: str | None = None


class Trace(Part):
    """Recorded traffic, replayed: a CSV or JSONL file with a timestamp a row, in time order."""

    kind: Literal["trace"] = "trace"
    path: Path
    speed: float = Field(default=1.0, gt=0)
    """2 replays it twice as fast."""
    unit: Literal["s", "ms", "us", "ns"] = "s"
    """Of timestamps that are numbers; others are read as ISO 8601 dates."""
    seconds: float | None = Field(default=None, gt=0)
    """Replay only what comes within so many seconds of the run."""
    columns: Columns = Columns()


class ClosedLoop(Part):
    """Users who each send a request when the answer before has come, and they have thought."""

    kind: Literal["closed"] = "closed"
    stages: Annotated[tuple[UserStage, ...], AfterValidator(check_ends)] = Field(min_length=1)
    think_s: Seconds = Fixed(value=0)


Arrivals = Annotated[Poisson | Gamma | Constant | Trace | ClosedLoop, Field(discriminator="kind")]


def arrival_times(arrivals: Poisson | Gamma | Constant, rng: Random) -> Iterator[float]:
    """The seconds of the arrivals of an open loop, in order and in constant memory."""
    return moments(_gaps(arrivals, rng), arrivals.stages)


def _gaps(arrivals: Poisson | Gamma | Constant, rng: Random) -> Iterator[float]:
    """Gaps of mean 1, the first of them from the begin to the first arrival."""
    match arrivals:
        case Poisson():
            return _each(lambda: exponential(rng))
        case Gamma(burstiness=burstiness) if math.isfinite(burstiness):
            return _each(lambda: gamma(rng, burstiness) / burstiness)
        case _:
            return chain([0.0], repeat(1.0))


def _each(draw: Callable[[], float]) -> Iterator[float]:
    while True:
        yield draw()
