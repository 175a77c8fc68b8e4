"""What a run came to, in sentences: the first thing that a report says."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from loadtest.report.formats import count, digits, seconds, share, span
from loadtest.report.result import Result
from loadtest.statistics.rows import OUTCOMES

Tone = Literal["good", "bad", "warn", "note"]
_MANY_ERRORS = 0.01
_KINDS = 4


@dataclass(frozen=True, slots=True)
class Line:
    tone: Tone
    text: str


def headline(result: Result) -> Line:
    """The one thing to know of the run: what spoils it, else what it found."""
    requests, failing = result.requests, [one for one in result.conditions if one.failed]
    if result.ended == "target":
        return Line("bad", "The target could not be tested")
    if result.ended == "interrupted" and result.problem is not None:
        when = f"run broke off after {span(result.seconds)}"
        return Line("bad", f"The {when if result.knee is None else 'search broke off'}")
    if not requests.sent:
        return Line("warn", "Nothing was measured")
    if not requests.ok:
        return Line("bad", "No request was answered")
    if failing:
        return Line("bad", f"Fails {_of_conditions(len(failing), len(result.conditions))}")
    if result.tester.bound:
        return Line("warn", "The tester was the limit, not the server")
    if result.ended == "interrupted":
        # The time is that of one probe where there was a search.
        when = f"after {span(result.seconds)}" if result.knee is None else "before the search's end"
        return Line("warn", f"Interrupted {when}")
    return _found(result)


def lines(result: Result) -> list[Line]:
    """Everything that decides how far the figures can be trusted, what spoils them first."""
    told = [*problem(result), *_conditions(result), *_facts(result)]
    order: dict[Tone, int] = {"bad": 0, "warn": 1, "good": 2, "note": 3}
    return sorted(told, key=lambda line: order[line.tone])


def doubts(result: Result) -> list[Line]:
    """What makes the figures doubtful, besides a problem and what --fail-if asked."""
    return [line for line in _facts(result) if line.tone in ("bad", "warn")]


def problem(result: Result) -> Iterator[Line]:
    """What was wrong with the target or the tester, if anything was."""
    if result.problem is not None:
        yield Line("bad", _sentence(result.problem))
    elif result.ended == "target":
        yield Line("bad", "It ended early, because the target is wrong or not there.")


def judged(result: Result) -> int:
    """Requests that ended by themselves."""
    return result.requests.ok + result.requests.failed


def _found(result: Result) -> Line:
    if result.knee is not None:
        knee = result.knee.knee
        if knee.rate is None and knee.fails is None:
            return Line("bad", "No rate was judged")
        if knee.rate is None:
            return Line("bad", "No rate holds the objectives")
        words = "The knee is at" if knee.found else "It holds at least"
        return Line("good" if knee.found else "warn", f"{words} {digits(knee.rate)} requests/s")
    if result.conditions:
        return Line("good", f"Keeps {_of_conditions(len(result.conditions))}")
    failed = result.requests.failed
    tone: Tone
    if failed:
        tone = "bad" if failed > _MANY_ERRORS * judged(result) else "warn"
        return Line(tone, f"{share(failed / judged(result))} of requests failed")
    if result.goodput is not None and result.goodput.share is not None:
        tone = "good" if result.goodput.share == 1 else "note"
        return Line(tone, f"{share(result.goodput.share)} of requests kept the objectives")
    return Line("good", f"All {count(result.requests.ok, 'request')} were answered"
                if result.requests.ok > 1 else "The request was answered")  # fmt: skip


def _of_conditions(some: int, of: int | None = None) -> str:
    if of is None:
        return "its condition" if some == 1 else f"all {some} conditions"
    return "its condition" if of == 1 else f"{some} of {of} conditions"


def _facts(result: Result) -> list[Line]:
    return [
        *_end(result), _tester(result), *_errors(result), *_objectives(result), *_knee(result),
        *_coverage(result),
    ]  # fmt: skip


def _end(result: Result) -> Iterator[Line]:
    if result.ended == "interrupted" and result.problem is None:
        if result.knee is not None:
            yield Line("warn", "Interrupted by the user before the search came to its end.")
            return
        text = f"Interrupted by the user after {span(result.seconds)}"
        yield Line("warn", f"{text}: the figures are of what was run until then.")
    elif result.ended == "completed":
        yield Line("note", f"It ran to its end, {span(result.seconds)}.")
    if not result.requests.sent and result.ended != "target":
        yield Line("warn", f"No request fell in the measured phase{_outside(result)}.")


def _outside(result: Result) -> str:
    many, outcomes = sum(result.outside.values()), result.table()["outcome"]
    if not many or not len(outcomes):
        return ""
    answered = float((outcomes == OUTCOMES.index("ok")).mean())
    return (
        f": {count(many, 'request')} fell in warm-up or cool-down ({share(answered)} answered);"
        " run it for longer"
    )


def _conditions(result: Result) -> Iterator[Line]:
    for one in result.conditions:
        word = "Fails, as asked by --fail-if" if one.failed else "Does not fail"
        yield Line("bad" if one.failed else "good", f"{word}: {one.reason}.")


def _tester(result: Result) -> Line:
    tester = result.tester
    if tester.bound:
        why = "; ".join(tester.reasons)
        text = f"Tester-bound: figures may be the tester's own, not the server's. {_sentence(why)}"
        return Line("warn", text)
    if tester.lag_p99_s is None:
        return Line("note", "How the tester itself did was not measured.")
    cpu = "" if tester.cpu_share is None else f", and it used {tester.cpu_share:.0%} of a core"
    late = seconds(tester.lag_p99_s)
    return Line(
        "good", f"The tester kept up: 99% of requests left within {late} of their time{cpu}."
    )


def _errors(result: Result) -> Iterator[Line]:
    failed, of = result.requests.failed, judged(result)
    if not of:
        return
    if not failed:
        yield Line("good", "The request was answered." if of == 1 else f"All {of:,} were answered.")
        return
    kinds = sorted(result.errors.items(), key=lambda kind: -kind[1])
    told = ", ".join(f"{many:,} {kind}" for kind, many in kinds[:_KINDS])
    more = f" and {count(len(kinds) - _KINDS, 'kind')} more" if len(kinds) > _KINDS else ""
    tone: Tone = "bad" if failed > _MANY_ERRORS * of else "warn"
    yield Line(
        tone, f"{failed:,} of {count(of, 'request')} failed ({share(failed / of)}): {told}{more}."
    )


def _objectives(result: Result) -> Iterator[Line]:
    if result.goodput is None or result.goodput.share is None:
        return
    good = result.goodput
    kept = f"{good.good:,} of {count(judged(result), 'request')} ({share(good.share)})"
    yield Line("note", f"{kept} kept the objectives {objectives(result)}.")


def objectives(result: Result) -> str:
    """As `TTFT ≤ 500 ms, ITL ≤ 50 ms`."""
    parts = [part.partition("=") for part in (result.slo or "").split(",") if part]
    return ", ".join(f"{name.upper()} ≤ {_spaced(most)}" for name, _, most in parts)


def _knee(result: Result) -> Iterator[Line]:
    search = result.knee
    if search is None:
        return
    tone: Tone = "good" if search.knee.found else "bad" if search.knee.rate is None else "warn"
    probes = f"{count(search.knee.probes, 'probe')} of {span(search.probe_s)} or more"
    yield Line(tone, f"Search for the knee: {search.knee.reason} ({probes}).")
    if search.figures_of_rate is not None:
        rate = digits(search.figures_of_rate)
        yield Line("note", f"Latencies and tables are those of the run at {rate} requests/s.")


def _coverage(result: Result) -> Iterator[Line]:
    kept, of = int(result.rows["rows"]), int(result.rows["of_requests"])
    if kept < of:
        text = f"Plots of single requests show a sample of {kept:,} of {of:,}; figures are of all."
        yield Line("note", text)
    if result.requests.cancelled:
        cut = _were(result.requests.cancelled, "request")
        yield Line("note", f"{cut} still in flight at the interruption, and in no share.")
    if result.unsent:
        yield Line("note", f"{_were(result.unsent, 'turn of a session')} not reached.")
    if result.other_tenants is not None or result.other_models is not None:
        yield Line("note", "More tenants or models came than are kept apart; the rest are one row.")


def _were(many: int, what: str) -> str:
    """`1 request was`, `3 turns of sessions were`."""
    if many == 1:
        return f"1 {what} was"
    return f"{many:,} {what.replace(' of a session', 's of session')}s were"


def _sentence(text: str) -> str:
    text = text.strip()
    address = "://" in text.partition(" ")[0]
    return (text if address else text[:1].upper() + text[1:]) + (
        "" if text.endswith((".", "!", "?")) else "."
    )


def _spaced(time: str) -> str:
    number = time.rstrip("µums")
    try:
        value = float(number) * {"ms": 1e-3, "s": 1.0, "us": 1e-6, "µs": 1e-6}[time[len(number) :]]
    except (KeyError, ValueError):
        return time
    return seconds(value)
