"""A run at one rate, as the search for the knee sees it."""

from loadtest.knee import Probe, piles_up
from loadtest.statistics.measured import Measured


def probe_of(
    measured: Measured, rate: float, begin_s: float, end_s: float, *, tester_bound: bool
) -> Probe:
    """The probe that a run with objectives makes.

    begin_s, end_s: the measured phase. Work that piles up is looked for in its second half, when
    the requests that fill an empty server at first are long answered; so warm-up and first half
    together should be longer than an answer takes. Raises ValueError for a run without objectives.
    """
    if measured.figures.slo is None:
        raise ValueError("the run has no objectives; give it an Slo")
    every = measured.figures.all
    whole = measured.timeline.stretch(begin_s, end_s)
    late = measured.timeline.stretch((begin_s + end_s) / 2, end_s)
    return Probe(
        rate=rate,
        requests=every.judged,
        good=every.good,
        served_per_s=whole.ok / whole.seconds if whole.seconds else 0.0,
        sustained=not piles_up(late.arrivals, late.in_flight_at_begin, late.in_flight_at_end),
        tester_bound=tester_bound,
    )
