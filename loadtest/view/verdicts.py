"""The first lines of a run's report: what to know before any figure is believed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from loadtest.report.result import Result
from loadtest.statistics.rows import OUTCOMES
from loadtest.view.amounts import counted, latency, rate, share

Mood = Literal["good", "doubtful", "bad"]

_KINDS_OF_ERRORS = 4


@dataclass(frozen=True, slots=True)
class Line:
    """One verdict, in a sentence."""

    mood: Mood
    text: str


def verdicts(result: Result) -> Iterator[Line]:
    """How it ended, whether the tester kept up, failures, objectives, conditions."""
    yield _ending(result)
    if not result.requests.sent:
        yield _nothing_measured(result)
        return
    yield from _tester(result)
    yield _failures(result)
    if result.goodput is not None and result.goodput.share is not None:
        yield _objectives(result)
    for one in result.conditions:
        yield Line("bad" if one.failed else "good", f"--fail-if {one.reason}")


def _ending(result: Result) -> Line:
    if result.ended == "target":
        return Line("bad", f"stopped early: {result.problem or 'the target does not answer'}")
    if result.problem is not None:
        return Line("bad", f"incomplete: {result.problem}")
    if result.ended == "interrupted":
        cut = result.requests.cancelled
        cancelled = f"; {counted(cut, 'request')} under way cancelled" if cut else ""
        return Line("doubtful", f"interrupted: these are the figures until then{cancelled}")
    return Line("good", "completed")


def _nothing_measured(result: Result) -> Line:
    outside = sum(result.outside.values())
    if not outside:
        return Line("bad", "nothing was measured: no request came to an end")
    outcomes = result.table()["outcome"]
    answered = float((outcomes == OUTCOMES.index("ok")).mean()) if len(outcomes) else None
    return Line(
        "bad",
        f"nothing was measured: all {counted(outside, 'request')} came in the warm-up or cool-down"
        f" ({share(answered)} answered); run it for longer",
    )


def _tester(result: Result) -> Iterator[Line]:
    tester = result.tester
    if tester.bound:
        yield Line("bad", "tester-bound: the figures may be the tester's own, not the server's")
        yield from (Line("bad", f"  {reason}") for reason in tester.reasons)
        return
    late = f"requests sent {latency(tester.lag_p99_s)} late (p99)"
    cpu = "" if tester.cpu_share is None else f", {tester.cpu_share:.0%} of a core used"
    yield Line("good", f"the tester kept up: {late}{cpu}")


def _failures(result: Result) -> Line:
    requests = result.requests
    judged = requests.ok + requests.failed
    if not judged:
        return Line("bad", f"no answers: all {counted(requests.sent, 'request')} were cancelled")
    if not requests.failed:
        return Line("good", f"no failures: {counted(requests.ok, 'request')} answered")
    kinds = list(result.errors.items())
    told = [f"{kind} {times:,}" for kind, times in kinds[:_KINDS_OF_ERRORS]]
    if len(kinds) > _KINDS_OF_ERRORS:
        told.append(f"other {sum(times for _, times in kinds[_KINDS_OF_ERRORS:]):,}")
    text = f"{requests.failed:,} of {counted(judged, 'request')} failed"
    return Line("bad", f"{text} ({share(requests.failed / judged)}): {', '.join(told)}")


def _objectives(result: Result) -> Line:
    assert result.goodput is not None
    good = result.goodput
    text = f"{share(good.share)} within {result.slo}"
    per_s = f", {rate(good.per_s)} good/s" if good.per_s is not None else ""
    return Line("good" if good.share == 1 else "doubtful", f"goodput: {text}{per_s}")
