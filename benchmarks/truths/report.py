"""What truth.py found, as JSON and as a page."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.truths.bound import RATES, Verdict
from benchmarks.truths.cases import FREEZING, Case
from benchmarks.truths.freeze import Told, Truth
from benchmarks.truths.knees import Searched

WITHIN = 0.05
FAR_OFF = 0.5
FLAT = {"statistics": 0.01, "http": 0.05}
"""Memory may grow by this share; a whole process has its allocator's steps besides."""
LATE_S = 0.010
LATE_SHARE = 0.01
"""An engine's lateness at the 99th percentile, up to which its truth is taken for kept: beside
objectives of 20 to 100 ms, and as a share of a freeze's p99, after which all is written at once."""
_MIB = 2**20


@dataclass
class Results:
    """Filled in as the run goes on."""

    started_at: str
    options: dict[str, Any]
    machine: dict[str, str]
    versions: dict[str, str]
    truth: Truth | None = None
    freeze: list[Told] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    knees: list[Searched] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    """By `statistics` and `http`: what `memory.py` wrote."""
    bound: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    partial: bool = True

    def as_json(self) -> dict[str, Any]:
        """With the claims."""
        return asdict(self) | {"claims": [list(one) for one in claims(self)]}


Claim = tuple[str, bool]


def off(value: float | None, truth: float) -> float:
    """How far from the truth, as a share of it; all of it where there is no value."""
    return -1.0 if value is None else value / truth - 1


def claims(results: Results) -> list[Claim]:
    """What should be, and whether it was, of what has been measured so far."""
    return [
        *_freeze_claims(results),
        *_knee_claims(results),
        *_engine_claims(results),
        *_memory_claims(results.memory),
        *_bound_claims(results.bound),
    ]


def _freeze_claims(results: Results) -> Iterator[Claim]:
    truth = results.truth
    if truth is None:
        return
    for told in results.freeze:
        figures = [("E2E", told.e2e_p99_s, truth.e2e_p99_s)]
        if told.ttft_p99_s is not None:
            figures.insert(0, ("TTFT", told.ttft_p99_s, truth.ttft_p99_s))
        for name, value, true in figures:
            how = off(value, true)
            said = f"{told.tester}: {name} p99 {value:.3f} s, truth {true:.3f} s ({how:+.1%})"
            if told.kind == "closed loop":
                yield f"far off: {said}", abs(how) > FAR_OFF
            elif told.kind == "open loop":
                yield f"within 5 %: {said}", abs(how) <= WITHIN


def _knee_claims(results: Results) -> Iterator[Claim]:
    for case in results.cases:
        found = [one for one in results.knees if one.case == case.engine]
        if not found:
            continue
        worst = max((off(one.rate, case.capacity) for one in found), key=abs)
        yield (
            f"knee of `{case.engine}`, {len(found)} searches: within 5 % of its capacity of"
            f" {case.capacity:.1f} a second (the farthest {worst:+.1%})",
            abs(worst) <= WITHIN and all(one.found for one in found),
        )
        rates = [one.rate for one in found if one.rate is not None]
        if len(rates) < len(found):
            yield f"each search of `{case.engine}` found a rate", False
        elif len(rates) > 1:
            apart = max(rates) / min(rates) - 1
            yield f"searches of `{case.engine}` agree within 5 % ({apart:.1%})", apart <= WITHIN


def _engine_claims(results: Results) -> Iterator[Claim]:
    allowed = [(one.late, LATE_S) for one in results.knees]
    if results.truth is not None:
        allowed += [(one.late, LATE_SHARE * results.truth.e2e_p99_s) for one in results.freeze]
    late = [(late["p99_s"], most) for late, most in allowed if "p99_s" in late]
    if late:
        worst, most = max(late, key=lambda one: one[0] / one[1])
        yield (
            f"the engines kept their own times in {len(late)} runs: p99 of lateness at most"
            f" {1000 * worst:.2f} ms where {1000 * most:.0f} ms are allowed",
            worst <= most,
        )


def _memory_claims(memory: dict[str, Any]) -> Iterator[Claim]:
    for name, what in (("statistics", "made-up requests"), ("http", "requests over HTTP")):
        steps = memory.get(name, {}).get("steps")
        if not steps:
            continue
        early, last = settled(steps), steps[-1]
        grown = last[1] / early[1] - 1
        yield (
            f"memory flat from {early[0]:,} to {last[0]:,} {what}: {early[1] / _MIB:.1f} to"
            f" {last[1] / _MIB:.1f} MiB ({grown:+.1%})",
            grown <= FLAT[name],
        )


def settled(steps: Sequence[Sequence[float]]) -> Sequence[float]:
    """The step at half of the requests. Until then what is bounded fills up: 100,000 rows, the
    timeline's cells, and the octaves that each tenant's and model's histograms meet."""
    enough = max(steps[-1][0] / 2, min(100_000, steps[-1][0]))
    return next(step for step in steps if step[0] >= enough)


def _bound_claims(bound: Sequence[Verdict]) -> Iterator[Claim]:
    for one in bound:
        fast = one.rate == RATES[-1]
        said = "; ".join(one.reasons) or "nothing"
        text = f"at {one.rate:,.0f} a second ({one.sent_per_s:,.0f} sent) the tester says of itself"
        yield f"{text}: {said}", one.bound is fast and bool(one.reasons) is fast


def markdown(results: Results) -> str:
    """The page."""
    versions = ", ".join(f"{name} {value}" for name, value in results.versions.items())
    machine = results.machine
    return "\n".join(
        [
            "# Does the load tester tell the truth?",
            "",
            f"{results.started_at}, {machine['processor']}, {machine['cores']} cores,"
            f" {machine['priority']} priority; {versions}."
            + (" **A part only: the run was ended before its end.**" if results.partial else ""),
            "",
            *(f"- {'held' if held else '**not held**'}: {text}" for text, held in claims(results)),
            *(f"- note: {note}" for note in results.notes),
            "",
            *_freeze_page(results),
            *_knee_page(results),
            *_memory_page(results.memory),
        ]
    )


def _freeze_page(results: Results) -> Iterator[str]:
    if results.truth is None:
        return
    yield f"## An engine that freezes for {FREEZING.frozen_s:g} s each {FREEZING.every_s:g} s"
    yield ""
    yield "| tester | requests | TTFT p99 | off | E2E p99 | off | engine late p99 |"
    yield "|---|---|---|---|---|---|---|"
    truth = results.truth
    yield f"| *truth: the rule* | | {truth.ttft_p99_s:.3f} s | | {truth.e2e_p99_s:.3f} s | | |"
    for told in results.freeze:
        ttft = "- | -"
        if told.ttft_p99_s is not None:
            ttft = f"{told.ttft_p99_s:.3f} s | {off(told.ttft_p99_s, truth.ttft_p99_s):+.1%}"
        yield (
            f"| {told.tester} | {told.requests:,} | {ttft} | {told.e2e_p99_s:.3f} s |"
            f" {off(told.e2e_p99_s, truth.e2e_p99_s):+.1%} | {_ms(told.late)} |"
        )
    yield ""


def _knee_page(results: Results) -> Iterator[str]:
    if not results.knees:
        return
    yield "## The knee of engines whose capacity is known"
    yield ""
    for case in results.cases:
        yield (
            f"- `{case.engine}`: {case.what}; {case.arrivals} arrivals, `--slo {case.slo}`;"
            f" holds {case.capacity:.1f} a second, by {case.by}"
        )
    yield ""
    yield "| engine | begun at | found | off | probes | requests | minutes | engine late p99 |"
    yield "|---|---|---|---|---|---|---|---|"
    capacity = {case.engine: case.capacity for case in results.cases}
    for one in sorted(results.knees, key=lambda one: (one.case, one.repeat)):
        found = "none" if one.rate is None else f"{one.rate:.1f}"
        yield (
            f"| `{one.case}` | {one.start:g} | {found} | {off(one.rate, capacity[one.case]):+.1%} |"
            f" {len(one.probes)} | {one.requests:,} | {one.seconds / 60:.1f} | {_ms(one.late)} |"
        )
    yield ""


def _memory_page(memory: dict[str, Any]) -> Iterator[str]:
    for name, title in (
        ("statistics", "Memory: statistics of made-up requests"),
        ("http", "Memory: a run over HTTP"),
    ):
        told = memory.get(name)
        if not told:
            continue
        yield f"## {title}"
        yield ""
        yield "| requests | resident |"
        yield "|---|---|"
        steps = told["steps"]
        shown = steps if len(steps) <= 20 else steps[:: len(steps) // 12]
        yield from (f"| {int(many):,} | {bytes_ / _MIB:.1f} MiB |" for many, bytes_ in shown)
        yield ""
        yield (
            f"In {told['seconds']:.0f} s. Writing result.json ({told['file_bytes'] / _MIB:.1f} MiB,"
            f" {told['writing_s']:.1f} s) took memory from"
            f" {told['before_writing_bytes'] / _MIB:.0f} to"
            f" {told['peak_writing_bytes'] / _MIB:.0f} MiB at its peak."
        )
        yield ""


def _ms(late: dict[str, float]) -> str:
    return f"{1000 * late['p99_s']:.2f} ms" if "p99_s" in late else "-"
