"""What was to be shown, what was measured, and whether it held; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.sides.paced import Paced
from benchmarks.sides.rounds import (
    DIRECT,
    Measure,
    Summary,
    counting_rounds,
    of,
    ratios,
    summary,
)
from benchmarks.sides.window import ONE, PLAIN, STREAM, Scenario, Window

SIDE, ROUTER, LITELLM = "loraplex", "vllm-router", "litellm"
ADDED_P99_MS = 10.0
CPU_SHARE = 0.70
FLAT_GROWTH = 0.05
ISSUE_STREAMS, ISSUE_SECONDS = 500, 300.0


@dataclass(frozen=True)
class Verdict:
    """One claim. held: None where it was not measured."""

    claim: str
    measured: str
    held: bool | None


def chunks_per_s(window: Window) -> float:
    return window.chunks_per_s


def requests_per_s(window: Window) -> float:
    return window.requests_per_s


def chunks_per_cpu_s(window: Window) -> float:
    return window.chunks / window.cpu_s if window.cpu_s else 0.0


def requests_per_cpu_s(window: Window) -> float:
    return window.requests / window.cpu_s if window.cpu_s else 0.0


def p50_ms(window: Window) -> float:
    return window.p50_ms


def relay_verdicts(windows: Sequence[Window]) -> list[Verdict]:
    """The claims against the peers."""
    return [
        _rate(windows, STREAM, "streamed chunks", chunks_per_s, chunks_per_cpu_s, 1.1),
        _rate(windows, PLAIN, "plain requests", requests_per_s, requests_per_cpu_s, 1.0),
        _latency(windows),
        _far_ahead(windows, STREAM, "streamed chunks", chunks_per_s),
        _far_ahead(windows, PLAIN, "plain requests", requests_per_s),
    ]


def paced_verdicts(paced: Sequence[Paced], many: Sequence[Paced]) -> list[Verdict]:
    """The claims on many streams at once."""
    mine = next((p for p in paced if p.side == SIDE), None)
    return [*_steady(mine, added_p99_ms(paced, SIDE)), _no_errors(many)]


def added_p99_ms(paced: Iterable[Paced], side: str) -> float | None:
    """The side's p99 between tokens less the engine's own, seen by the same client."""
    p99 = {p.side: p.itl.p99_ms for p in paced}
    return p99[side] - p99[DIRECT] if {side, DIRECT} <= p99.keys() else None


def _rate(
    windows: Sequence[Window],
    scenario: Scenario,
    what: str,
    per_s: Measure,
    per_cpu_s: Measure,
    least: float,
) -> Verdict:
    """Per second in the rounds that count; where none does, per CPU second of the proxy."""
    every = ratios(windows, scenario.name, SIDE, ROUTER, per_s)
    counting = counting_rounds(windows, scenario.name)
    rate = summary(value for number, value in every.items() if number in counting)
    claim = f"{what} against {ROUTER}: at least {least:.1f}x"
    if not every:
        return Verdict(f"{claim} per second", "not measured", None)
    if rate is not None:
        held = rate.median >= least and _clean(windows, scenario)
        return Verdict(f"{claim} per second", _times(rate, len(every)), held)
    per_second = summary(every.values())
    cpu = summary(ratios(windows, scenario.name, SIDE, ROUTER, per_cpu_s).values())
    claim += " per CPU second and 1.0x per second, since the engine or the load is the bound"
    if cpu is None or per_second is None:
        return Verdict(claim, "not measured", None)
    held = cpu.median >= least and per_second.median >= 1.0 and _clean(windows, scenario)
    measured = f"{_times(cpu)} per CPU second, {_times(per_second)} per second"
    return Verdict(claim, measured, held)


def _latency(windows: Sequence[Window]) -> Verdict:
    claim = f"p50 at one connection against {ROUTER}: at most 1.2x"
    found = summary(ratios(windows, ONE.name, SIDE, ROUTER, p50_ms).values())
    if found is None:
        return Verdict(claim, "not measured", None)
    return Verdict(claim, _times(found), found.median <= 1.2 and _clean(windows, ONE))


def _far_ahead(windows: Sequence[Window], scenario: Scenario, what: str, per_s: Measure) -> Verdict:
    claim = f"{what} per second against {LITELLM}: at least 50x"
    found = summary(ratios(windows, scenario.name, SIDE, LITELLM, per_s).values())
    if found is None:
        return Verdict(claim, "not measured", None)
    return Verdict(claim, _times(found), found.median >= 50 and _clean(windows, scenario))


def _clean(windows: Sequence[Window], scenario: Scenario) -> bool:
    """An answer that failed was quick: with errors no rate holds."""
    return not any(window.errors for window in of(windows, scenario.name, SIDE))


def _steady(mine: Paced | None, added_ms: float | None) -> list[Verdict]:
    if mine is None:
        return [Verdict("many streams at a steady pace", "not measured", None)]
    where = f"{mine.streams} streams at {mine.token_time_s * 1e3:g} ms a token"
    for_s = f"over {mine.seconds:.0f} s"
    # What is shorter or smaller than was asked shows nothing either way.
    whole = mine.streams >= ISSUE_STREAMS and mine.seconds >= ISSUE_SECONDS - 1
    short = "" if whole else f" (the claim is for {ISSUE_STREAMS} over {ISSUE_SECONDS:.0f} s)"
    added = "no engine alone to compare with" if added_ms is None else f"{added_ms:.2f} ms"
    share, growth = mine.proxy_cpu_share, mine.rss_growth
    failed = sum(mine.errors.values())
    return [
        Verdict(
            f"{where}: added p99 between tokens under {ADDED_P99_MS:g} ms",
            f"{added} {for_s}, {failed} errors{short}",
            None if added_ms is None else added_ms < ADDED_P99_MS and not failed,
        ),
        Verdict(
            f"{where}: CPU under {CPU_SHARE:.0%} of a core",
            f"{share:.1%} {for_s}{short}",
            share < CPU_SHARE,
        ),
        Verdict(
            f"{where}: resident memory flat (at most {FLAT_GROWTH:.0%} more)",
            f"{growth:+.1%} from the first quarter to the last, {for_s}{short}",
            growth <= FLAT_GROWTH,
        ),
    ]


def _no_errors(many: Sequence[Paced]) -> Verdict:
    claim = "2,000 streams with two workers: no error"
    if not many:
        return Verdict(claim, "not measured", None)
    failed = sum(sum(p.errors.values()) for p in many)
    ended = sum(p.streams_ended for p in many)
    size = f"{many[0].streams} streams at {many[0].token_time_s * 1e3:g} ms a token"
    measured = f"{failed} errors, {ended} streams ended in {many[0].seconds:.0f} s, {size}"
    return Verdict(claim, measured, not failed and ended > 0)


def _times(found: Summary, of_rounds: int | None = None) -> str:
    counted = f"{found.count} of {of_rounds}" if of_rounds is not None else f"{found.count}"
    return f"{found.median:.2f}x ({found.low:.2f}-{found.high:.2f}, {counted} rounds)"
