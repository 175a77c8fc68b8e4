"""What a run must not be: `--fail-if "ttft_p95 > 400ms"`, parsed and judged."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from loadtest.statistics.figures import Summary
from loadtest.statistics.histogram import Spread
from loadtest.statistics.units import StatisticsError, nearest, number, seconds, share

Kind = Literal["time", "share", "number", "flag"]

_TIMES = ("ttft", "itl", "tpot", "e2e", "queue", "lag")
_OF_SPREAD = ("p50", "p90", "p95", "p99", "max", "min", "mean")
_SPREADS: dict[str, Kind] = {f"{time}_{of}": "time" for time in _TIMES for of in _OF_SPREAD}
FACTS: dict[str, Kind] = _SPREADS | {
    "errors": "share",
    "timeouts": "share",
    "goodput": "share",
    "goodput_per_s": "number",
    "requests_per_s": "number",
    "output_tokens_per_s": "number",
    "total_tokens_per_s": "number",
    "cold_starts": "number",
    "jain_tokens": "number",
    "jain_goodput": "number",
    "tester_bound": "flag",
}
"""What a condition may name."""

_COMPARED: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:(>=|<=|==|!=|>|<)\s*(.+))?")


@dataclass(frozen=True, slots=True)
class Condition:
    """A fact beside a bound, in seconds, shares or as it is; a flag has neither sign nor bound."""

    text: str
    fact: str
    sign: str | None
    bound: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    condition: Condition
    failed: bool
    """Whether the condition holds, so that the run fails."""
    value: float | bool | None
    reason: str


def parse_condition(text: str) -> Condition:
    """A condition as `ttft_p95 > 400ms`, `errors > 1%`, `goodput < 0.99`, `tester_bound`.

    Raises StatisticsError, which says what is meant or known.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise StatisticsError(
            f"--fail-if: `{text.strip()}` is not FIGURE > VALUE, as `ttft_p95 > 400ms`"
        )
    fact, sign, bound = match.groups()
    kind = _kind_of(fact)
    if kind == "flag":
        if sign is not None:
            raise StatisticsError(f"--fail-if: `{fact}` is true or not; write it alone")
        return Condition(text.strip(), fact, None, None)
    if sign is None:
        example = {"time": "400ms", "share": "1%", "number": "100"}[kind]
        raise StatisticsError(f"--fail-if: `{fact}` needs a bound, as `{fact} > {example}`")
    return Condition(text.strip(), fact, sign, _bound(kind, bound, f"--fail-if {fact}"))


def judge(condition: Condition, facts: Mapping[str, float | bool | None]) -> Verdict:
    """Whether the run fails by this condition; it does where its figure could not be measured."""
    value = facts.get(condition.fact)
    if value is None:
        reason = f"{condition.text}: {condition.fact} was not measured in this run"
        return Verdict(condition, failed=True, value=None, reason=reason)
    if condition.sign is None or condition.bound is None:
        failed = bool(value)
    else:
        failed = _COMPARED[condition.sign](float(value), condition.bound)
    shown = _shown(condition.fact, value)
    return Verdict(condition, failed, value, f"{condition.text}: {condition.fact} is {shown}")


def facts(summary: Summary, *, tester_bound: bool) -> dict[str, float | bool | None]:
    """Each fact of FACTS for a run; None where it was not measured."""
    every = summary.all
    goodput, throughput = every.goodput, every.throughput
    spreads = {"lag": summary.lag_s, "queue": every.queue_s}
    spreads |= {name: getattr(every, f"{name}_s") for name in ("ttft", "itl", "tpot", "e2e")}
    requests = every.requests
    judged = requests.ok + requests.failed
    return dict(_of_spreads(spreads)) | {
        "errors": requests.failed / judged if judged else None,
        "timeouts": requests.outcomes.get("timeout", 0) / judged if judged else None,
        "goodput": goodput.share if goodput else None,
        "goodput_per_s": goodput.per_s if goodput else None,
        "requests_per_s": throughput.requests_per_s,
        "output_tokens_per_s": throughput.output_tokens_per_s,
        "total_tokens_per_s": throughput.total_tokens_per_s,
        "cold_starts": every.cold_starts,
        "jain_tokens": summary.fairness.jain_tokens,
        "jain_goodput": summary.fairness.jain_good,
        "tester_bound": tester_bound,
    }


def _of_spreads(spreads: Mapping[str, Spread]) -> Iterator[tuple[str, float | None]]:
    for name, spread in spreads.items():
        yield from ((f"{name}_{of}", getattr(spread, of)) for of in _OF_SPREAD)


def _kind_of(fact: str) -> Kind:
    if fact not in FACTS:
        hint = nearest(fact, FACTS) or f"; known are {', '.join(_names())}"
        raise StatisticsError(f"--fail-if: `{fact}` is no figure{hint}")
    return FACTS[fact]


def _names() -> list[str]:
    """The facts for a message: the times' as one pattern."""
    times = f"{'|'.join(_TIMES)}_{'|'.join(_OF_SPREAD)}"
    return [times, *(name for name, kind in FACTS.items() if kind != "time")]


def _bound(kind: Kind, text: str, where: str) -> float:
    if kind == "time":
        return seconds(text, where)
    if kind == "share":
        return share(text, where)
    value, unit = number(text, where)
    if unit:
        raise StatisticsError(f"{where}: takes a number without a unit, not `{text.strip()}`")
    return value


def _shown(fact: str, value: float | bool) -> str:
    match FACTS[fact]:
        case "time":
            return f"{value * 1000:.4g} ms"
        case "share":
            return f"{value:.2%}"
        case "flag":
            return str(bool(value)).lower()
        case "number":
            return f"{value:.6g}"
