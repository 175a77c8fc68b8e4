"""Engines by their rules: what each does to a request, and what it can do, known without measuring.

The served engine (`engine.py`) and the simulations here follow the same rules.
"""

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Slots:
    """So many requests at a time, the rest wait in line. The first token comes when a request's
    turn does, the last when its service is done."""

    slots: int
    service_s: float
    spread: bool
    """Whether service times are spread exponentially around `service_s`; else all are that."""

    def draw(self, rng: random.Random) -> float:
        """A request's service time."""
        return rng.expovariate(1 / self.service_s) if self.spread else self.service_s


@dataclass(frozen=True)
class Batch:
    """All requests get a token in each step, up to `most` of them, and the rest wait; they join at
    a step's begin. A step takes longer the more take part, and beyond `roomy` much longer, as with
    an engine that has to preempt: it then serves less than it could."""

    most: int
    roomy: int
    step_s: float
    each_s: float
    tokens: int

    def step(self, many: int) -> float:
        """Seconds of a step of so many."""
        crowded = max(1.0, many / self.roomy)
        return (self.step_s + self.each_s * many) * crowded**2


@dataclass(frozen=True)
class Freezing:
    """Every request at once; but for the last `frozen_s` of each `every_s` all stands still."""

    every_s: float
    frozen_s: float
    first_s: float
    """The engine's work until a request's first token."""
    rest_s: float
    """And from there to its end."""

    def done(self, at_s: float, work_s: float) -> float:
        """When work that could begin at `at_s` is done; 0 is the begin of a period."""
        awake_s = self.every_s - self.frozen_s
        period, within_s = divmod(at_s, self.every_s)
        worked_s = period * awake_s + min(within_s, awake_s) + work_s
        periods, left_s = divmod(worked_s, awake_s)
        if left_s == 0 and periods:
            periods, left_s = periods - 1, awake_s
        return periods * self.every_s + left_s


Shape = Slots | Batch | Freezing


def erlang_c(servers: int, load: float) -> float:
    """The share of requests that wait with so many servers, in a queue with Poisson arrivals and
    exponential services (M/M/c, Erlang's second formula). load: arrivals per service time."""
    blocked = 1.0
    for many in range(1, servers + 1):
        blocked = load * blocked / (many + load * blocked)
    busy = load / servers
    return blocked / (1 - busy + busy * blocked)


def mmc_capacity(shape: Slots, most_s: float, share: float) -> float:
    """The rate at which just `share` of the requests wait at most `most_s`, of Poisson arrivals."""
    low, high = 0.0, shape.slots / shape.service_s
    for _ in range(80):
        rate = (low + high) / 2
        waiting = erlang_c(shape.slots, rate * shape.service_s)
        late = waiting * math.exp(-(shape.slots / shape.service_s - rate) * most_s)
        low, high = (rate, high) if late <= 1 - share else (low, rate)
    return low


def simulate_slots(shape: Slots, arrivals: Times, rng: random.Random) -> tuple[Times, Times]:
    """When each request's first and last token come."""
    free = [0.0] * shape.slots
    begins, ends = np.empty(len(arrivals)), np.empty(len(arrivals))
    for place, at_s in enumerate(arrivals):
        begins[place] = begin = max(float(at_s), free[0])
        ends[place] = end = begin + shape.draw(rng)
        heapq.heapreplace(free, end)
    return begins, ends


def simulate_batch(shape: Batch, arrivals: Times) -> tuple[Times, Times]:
    """When each request's first and last token come."""
    firsts, lasts = np.empty(len(arrivals)), np.empty(len(arrivals))
    running: dict[int, int] = {}
    now_s, come = 0.0, 0
    while come < len(arrivals) or running:
        if not running:
            now_s = max(now_s, float(arrivals[come]))
        while come < len(arrivals) and arrivals[come] <= now_s and len(running) < shape.most:
            running[come] = shape.tokens
            come += 1
        now_s += shape.step(len(running))
        for place, left in tuple(running.items()):
            if left == shape.tokens:
                firsts[place] = now_s
            if left == 1:
                lasts[place] = now_s
                del running[place]
            else:
                running[place] = left - 1
    return firsts, lasts


def evenly(rate: float, seconds: float) -> Times:
    """Arrivals at equal gaps."""
    return np.arange(0, seconds, 1 / rate, dtype=np.float64)


def batch_capacity(shape: Batch, most_s: float, share: float, seconds: float = 200.0) -> float:
    """The rate of evenly spaced arrivals at which just `share` of the requests have their tokens at
    most `most_s` apart in the mean: by simulation of `seconds`, to a thousandth."""
    low, high = 0.0, 2 * shape.roomy / (shape.tokens * shape.step(shape.roomy))
    while high - low > 0.001 * high:
        rate = (low + high) / 2
        firsts, lasts = simulate_batch(shape, evenly(rate, seconds))
        good = (lasts - firsts) / (shape.tokens - 1) <= most_s
        low, high = (rate, high) if good.mean() >= share else (low, rate)
    return low


def frozen_latencies(shape: Freezing, arrivals: Sequence[float]) -> tuple[Times, Times]:
    """Each request's TTFT and E2E as the rule has them, from when it should have been sent."""
    firsts = [shape.done(at_s, shape.first_s) for at_s in arrivals]
    lasts = [shape.done(at_s, shape.rest_s) for at_s in firsts]
    return np.subtract(firsts, arrivals), np.subtract(lasts, arrivals)


def nearest_rank(values: Times, percent: float) -> float:
    """The smallest value that `percent` of all do not exceed."""
    ordered = np.sort(values)
    return float(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)])
