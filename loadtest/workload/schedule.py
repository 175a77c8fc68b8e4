"""The schedule: which request is sent when, from the workload alone and in constant memory."""

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat

from loadtest.samples import Planned, encode
from loadtest.workload.arrivals import ClosedLoop, Trace, arrival_times
from loadtest.workload.choices import Weights, picker
from loadtest.workload.kinds import Kind
from loadtest.workload.lengths import seconds_draw
from loadtest.workload.population import Population
from loadtest.workload.randomness import stream
from loadtest.workload.spec import Workload
from loadtest.workload.stages import total_s
from loadtest.workload.tokenizer import load_tokenizer
from loadtest.workload.trace import Arrival, read_trace
from loadtest.workload.words import Texts


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a schedule holds, as far as it is known before."""

    seconds: float | None
    """None where only `requests` ends it."""
    arrivals: float | None
    """In the mean; a session is one. None in a closed loop without `requests`."""


def schedule(workload: Workload, *, part: int = 0, parts: int = 1) -> Iterator[Planned]:
    """The requests in time order; a session's turns stand together, after its first.

    part, parts: only every `parts`-th arrival (whole sessions), for one of several processes: all
    parts together are the whole schedule. Of a closed loop without `requests` there is no end.
    Files are read and checked before the first request: raises WorkloadError here.
    """
    if not 0 <= part < parts:
        raise ValueError(f"part {part} of {parts}")
    tokenizer = None if workload.tokenizer is None else load_tokenizer(workload.tokenizer)
    texts = Texts(workload.seed, tokenizer)
    kinds = [Kind(workload, number, texts) for number in range(len(workload.mix))]
    _check_trace(workload)
    return _planned(workload, kinds, part, parts)


def by_session(planned: Iterable[Planned]) -> Iterator[list[Planned]]:
    """The requests that belong together: all turns of a session, or one that stands alone."""
    turns: list[Planned] = []
    for one in planned:
        turns.append(one)
        if one.turn + 1 == one.turns:
            yield turns
            turns = []


def digest(workload: Workload, n: int) -> str:
    """SHA-256 of the first `n` requests: times, tenants, models and bodies, byte for byte.

    The same on every machine; with a tokenizer, as long as that is the same.
    """
    hashed = hashlib.sha256()
    for one in islice(schedule(workload), n):
        head = (one.index, one.at_s, one.tenant, one.route, one.session, one.turn, one.turns)
        hashed.update(encode({"request": head, "think_s": one.think_s}) + b"\n")
        hashed.update(one.payload() + b"\n")
    return hashed.hexdigest()


def extent(workload: Workload) -> Extent:
    """How long the schedule is, for what shows progress. Reads a trace."""
    arrivals = workload.arrivals
    most = workload.requests
    if isinstance(arrivals, Trace):
        count, last = deque(enumerate(islice(read_trace(arrivals), most), 1), maxlen=1)[0]
        return Extent(last.at_s, count)
    seconds = total_s(arrivals.stages)
    if isinstance(arrivals, ClosedLoop) or seconds is None:
        return Extent(seconds, most)
    expected = math.fsum(stage.arrivals for stage in arrivals.stages)
    return Extent(seconds, expected if most is None else min(expected, most))


def _planned(workload: Workload, kinds: list[Kind], part: int, parts: int) -> Iterator[Planned]:
    population = Population(workload)
    pick = picker(Weights(), [kind.share for kind in workload.mix])
    mix_rng = stream(workload.seed, "mix")
    index = 0
    for number, (arrival, think_s) in enumerate(_arrivals(workload)):
        if workload.requests is not None and index >= workload.requests:
            return
        chosen = pick(mix_rng)
        kind = kinds[chosen]
        tenant, model = population.pick(arrival)
        turns = kind.plan(arrival, think_s)
        session = number if workload.mix[chosen].sessions is not None else None
        if number % parts == part:
            for place, turn in enumerate(turns):
                body, tokens = kind.body(turn, place, index + place, (tenant, model))
                yield Planned(
                    index=index + place,
                    at_s=arrival.at_s if place == 0 else None,
                    tenant=tenant,
                    model=population.label(tenant, model),
                    route=kind.route,
                    body=body,
                    stream=kind.stream,
                    max_tokens=turn.max_tokens,
                    session=session,
                    turn=place,
                    prompt_tokens=tokens,
                    turns=len(turns),
                    think_s=turn.think_s,
                )
        index += len(turns)


def _arrivals(workload: Workload) -> Iterator[tuple[Arrival, float]]:
    """Each arrival, and the seconds a closed loop's user thinks before it."""
    arrivals = workload.arrivals
    if isinstance(arrivals, Trace):
        yield from ((arrival, 0.0) for arrival in read_trace(arrivals))
    elif isinstance(arrivals, ClosedLoop):
        draw, rng = seconds_draw(arrivals.think_s), stream(workload.seed, "think")
        yield from ((arrival, draw(rng)) for arrival in repeat(Arrival(None)))
    else:
        for at_s in arrival_times(arrivals, stream(workload.seed, "arrivals")):
            yield Arrival(at_s), 0.0


def _check_trace(workload: Workload) -> None:
    """Reads the whole trace, so that no row fails in the middle of a run."""
    population = Population(workload)
    if isinstance(workload.arrivals, Trace):
        for arrival in read_trace(workload.arrivals):
            population.pick(arrival)
