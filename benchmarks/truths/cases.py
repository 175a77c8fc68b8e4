"""The engines whose truth is known, and what is asked of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.truths.shapes import (
    Batch,
    Freezing,
    Shape,
    Slots,
    batch_capacity,
    mmc_capacity,
)
from loadtest.workload.loading import make_workload
from loadtest.workload.spec import Workload

TARGET: Final = 0.95
"""The share of requests that must keep the objectives."""

FIXED = Slots(slots=16, service_s=0.1, spread=False)
SPREAD = Slots(slots=16, service_s=0.05, spread=True)
CROWDED = Batch(most=64, roomy=32, step_s=0.010, each_s=0.00025, tokens=8)
FREEZING = Freezing(every_s=10, frozen_s=2, first_s=0.010, rest_s=0.010)
ENGINES: Mapping[str, Shape] = {
    "fixed": FIXED,
    "spread": SPREAD,
    "crowded": CROWDED,
    "freezing": FREEZING,
}


@dataclass(frozen=True)
class Case:
    """An engine, how it is asked, and the rate that it can hold."""

    engine: str
    what: str
    arrivals: str
    slo: str
    capacity: float
    by: str
    """How the capacity is known."""


def knee_cases() -> list[Case]:
    """Three shapes of knee."""
    return [
        Case(
            "fixed", "16 requests at a time, 0.1 s each", "constant", "ttft=100ms",
            FIXED.slots / FIXED.service_s, "slots over service time",
        ),
        Case(
            "spread", "16 at a time, 0.05 s each in the mean, spread exponentially", "poisson",
            "ttft=100ms", mmc_capacity(SPREAD, 0.1, TARGET), "queueing theory (M/M/c)",
        ),
        Case(
            "crowded", "a batch whose steps slow down, beyond 32 requests by the square",
            "constant", "itl=20ms", batch_capacity(CROWDED, 0.020, TARGET),
            "simulation of the rule",
        ),
    ]  # fmt: skip


def asked(arrivals: Mapping[str, Any], *, seed: int = 0, **fields: Any) -> Workload:
    """A workload of short streamed questions; the engines decide how long answers are."""
    kind = {
        "prompts": {"kind": "synthetic", "tokens": {"kind": "fixed", "value": 16}},
        "max_tokens": {"kind": "fixed", "value": 8},
    }
    whole = {"models": ["base"], "arrivals": arrivals, "mix": [kind], "seed": seed, **fields}
    return make_workload(whole, Path())
