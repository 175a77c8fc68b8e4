"""Samples made up for tests: single ones, and those that simulated engines would give."""

import heapq
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.knee import Probe, piles_up
from loadtest.samples import Sample

NO_GAPS = np.zeros(0)


def sample(index: int = 0, at_s: float = 0.0, **changed: Any) -> Sample:
    """A streamed answer of 11 tokens: 0.2 s to the first, 0.05 s between, 0.01 s to the end.

    The times move with `at_s`; `changed` says what is otherwise.
    """
    fields: dict[str, Any] = {
        "index": index,
        "tenant": "acme",
        "model": "bot",
        "phase": "measured",
        "intended_s": at_s,
        "sent_s": at_s,
        "first_token_s": at_s + 0.2,
        "last_token_s": at_s + 0.7,
        "ended_s": at_s + 0.71,
        "gaps": np.full(10, 0.05),
        "events": 11,
        "prompt_tokens": 7,
        "output_tokens": 11,
        "tokens_from": "server",
        "outcome": "ok",
        "status": 200,
        "error": None,
        "cold_start": False,
        "queue_s": None,
    }
    return Sample(**(fields | changed))


def failed(index: int = 0, at_s: float = 0.0, after_s: float = 0.01, **changed: Any) -> Sample:
    """A request that ended without a token."""
    nothing: dict[str, Any] = {
        "first_token_s": None,
        "last_token_s": None,
        "ended_s": at_s + after_s,
        "gaps": NO_GAPS,
        "events": 0,
        "output_tokens": None,
        "outcome": "http_error",
        "status": 503,
        "error": "http_503",
    }
    return sample(index, at_s, **(nothing | changed))


def timed(index: int, at_s: float, wait_s: float, sent_s: float | None = None) -> Sample:
    """An answer of one token that came after `wait_s`, streamed."""
    at_end = at_s + wait_s
    return sample(
        index,
        at_s,
        sent_s=at_s if sent_s is None else sent_s,
        first_token_s=at_end,
        last_token_s=at_end,
        ended_s=at_end,
        gaps=NO_GAPS,
        events=1,
        output_tokens=1,
    )


def thawed(at_s: float, work_s: float, *, every_s: float = 10.0, frozen_s: float = 2.0) -> float:
    """When work that begins at `at_s` is done by an engine that stands still for the last
    `frozen_s` of each `every_s`."""
    while True:
        begin = at_s // every_s * every_s
        freezes = begin + every_s - frozen_s
        at_s = begin + every_s if at_s >= freezes else at_s
        if at_s + work_s <= at_s // every_s * every_s + every_s - frozen_s:
            return at_s + work_s
        if at_s < freezes:
            work_s -= freezes - at_s
            at_s = freezes


# Engines for the search: what each request's wait is (sending to first token), in order of arrival,
# and when each ends.
Times = tuple[NDArray[np.float64], NDArray[np.float64]]
Engine = Callable[[NDArray[np.float64], random.Random], Times]


def slots(many: int, service: Callable[[random.Random], float]) -> Engine:
    """So many requests at a time, the rest wait in line."""

    def answer(arrivals: NDArray[np.float64], rng: random.Random) -> Times:
        free = [0.0] * many
        waits, ends = np.empty(len(arrivals)), np.empty(len(arrivals))
        for place, at_s in enumerate(arrivals):
            begin = max(float(at_s), free[0])
            ends[place] = begin + service(rng)
            heapq.heapreplace(free, float(ends[place]))
            waits[place] = begin - at_s
        return waits, ends

    return answer


def thrashing(per_s: float, knee: int, slack: float, work: float) -> Engine:
    """All at once, sharing `per_s`; with more than `slack` times `knee` in flight it collapses:
    what it does falls with the square of how many there are. `work` is the spread of a request's
    work around 1; alone, a request takes knee / per_s."""

    def answer(arrivals: NDArray[np.float64], rng: random.Random) -> Times:
        ends = np.full(len(arrivals), math.inf)
        # In flight by the amount of shared progress at which each is done.
        heap: list[tuple[float, int]] = []
        progress, now = 0.0, 0.0

        def advance(until: float) -> None:
            nonlocal progress, now
            while heap:
                speed = _shared(per_s, knee, slack, len(heap))
                done = now + (heap[0][0] - progress) / speed
                if done > until:
                    progress += (until - now) * speed
                    break
                progress, now = heap[0][0], done
                ends[heapq.heappop(heap)[1]] = done
            now = until

        for place, at_s in enumerate(arrivals):
            advance(float(at_s))
            heapq.heappush(heap, (progress + max(rng.gauss(1, work), 0.1), place))
        advance(float(arrivals[-1]) + 1000)
        return ends - arrivals, ends

    return answer


def _shared(per_s: float, knee: int, slack: float, many: int) -> float:
    """How fast each of so many gets on."""
    if many <= knee:
        return per_s / knee
    crowd = many / (knee * slack)
    return per_s / many / max(crowd, 1.0) ** 2


def arrivals_of(rate: float, seconds: float, rng: random.Random, *, poisson: bool) -> list[float]:
    def times() -> Iterator[float]:
        at_s = 0.0
        while at_s < seconds:
            yield at_s
            at_s += rng.expovariate(rate) if poisson else 1 / rate

    return list(times())


def probe(
    engine: Engine,
    rate: float,
    rng: random.Random,
    *,
    most_s: float,
    seconds: float = 60.0,
    warmup_s: float = 5.0,
    poisson: bool = True,
) -> Probe:
    """A run of the engine at this rate: after the warm-up, who waited at most `most_s`."""
    arrivals = np.array(arrivals_of(rate, seconds, rng, poisson=poisson))
    waits, ends = engine(arrivals, rng)
    measured = arrivals >= warmup_s
    in_flight = [int(((arrivals < at) & (ends > at)).sum()) for at in (warmup_s, seconds)]
    return Probe(
        rate=rate,
        requests=int(measured.sum()),
        good=int((waits[measured] <= most_s).sum()),
        served_per_s=float(((ends >= warmup_s) & (ends < seconds)).sum()) / (seconds - warmup_s),
        sustained=not piles_up(int(measured.sum()), *in_flight),
    )
