"""What is printed when a run has ended: the verdict, the table of latencies, other figures."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadtest.report.formats import count, money, number, printable, seconds, share, span
from loadtest.report.plots.source import short
from loadtest.report.result import Result
from loadtest.report.verdict import Tone, headline, judged, lines
from loadtest.statistics.group import GroupSummary
from loadtest.statistics.histogram import Spread

MOST_TENANTS = 5
"""In the table of the worst off."""
_WORTH_TELLING = 1.05
"""Times that one tenant waits as long as another."""

_MARKS: dict[Tone, tuple[str, str]] = {
    "good": ("✓", "green"),
    "warn": ("!", "yellow"),
    "bad": ("✗", "red"),
    "note": ("·", "dim"),
}
_PLAIN = ("good", "note")
_PHASES = {"warmup": "warm-up", "cooldown": "cool-down"}
_COUNTED = {"tokenizer": "by the tokenizer", "events": "by token events"}
"""Output tokens, where the server did not."""
_TELLS = ("mean", "p50", "p90", "p95", "p99", "max")


def summary(result: Result) -> RenderableType:
    """The report of a run; fits 80 columns."""
    said = headline(result)
    parts: list[RenderableType] = [
        _title(result),
        Text(said.text, style=f"bold {_MARKS[said.tone][1]}"),
        _verdicts(result),
    ]
    for table in (_latencies(result), _fields(result)):
        if table.row_count:
            parts += [Text(), table]
    if judged(result) and len(result.tenants) > 1:
        parts += [Text(), *_worst_tenants(result)]
    return Group(*parts)


def _title(result: Result) -> Text:
    groups = [
        count(len(names), what)
        for names, what in ((result.models, "model"), (result.tenants, "tenant"))
        if len(names) > 1
    ]
    of = ", ".join([result.url, span(result.seconds), *groups])
    return Text.assemble((printable(result.name), "bold"), f"  {of}")


def _verdicts(result: Result) -> Table:
    """As the page tells them."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    for line in lines(result):
        mark, style = _MARKS[line.tone]
        grid.add_row(
            Text(mark, style=style), Text(line.text, style="" if line.tone in _PLAIN else style)
        )
    return grid


def _latencies(result: Result) -> Table:
    table = _table("", *_TELLS)
    spreads = (
        ("TTFT", result.ttft_s),
        ("ITL", result.itl_s),
        ("TPOT", result.tpot_s),
        ("E2E", result.e2e_s),
        ("queue", result.queue_s),
    )
    for name, spread in spreads:
        if spread.count:
            table.add_row(name, *_cells(spread))
    if result.cold_starts and result.cold_ttft_s.count:
        table.add_row("cold TTFT", *_cells(result.cold_ttft_s))
    return table


def _cells(spread: Spread) -> Iterator[str]:
    return (seconds(getattr(spread, one)) for one in _TELLS)


def _fields(result: Result) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _told(result):
        grid.add_row(Text(name), Text(text))
    return grid


def _told(result: Result) -> Iterator[tuple[str, str]]:
    if result.requests.ok:
        yield from _answers(result)
    if result.outside:
        told = (
            f"{count(n, 'request')} of the {_PHASES.get(phase, phase)}"
            for phase, n in result.outside.items()
        )
        yield "left out", ", ".join(told)


def _answers(result: Result) -> Iterator[tuple[str, str]]:
    through = result.throughput
    yield (
        "throughput",
        f"{number(through.requests_per_s)} requests/s, {number(through.output_tokens_per_s)} output"
        f" tokens/s, {number(through.total_tokens_per_s)} with prompts",
    )
    yield "tokens", _tokens(result)
    if not result.ttft_s.count:
        yield "streaming", "none, so there is no TTFT, ITL or TPOT"
    if result.cold_starts:
        yield "cold starts", count(result.cold_starts, "answer") + " loaded an adapter first"
    yield from _cost(result)
    yield from _fairness(result)


def _tokens(result: Result) -> str:
    if not result.output_tokens:
        return "not known: the server does not tell; --tokenizer counts them"
    told = f"{count(result.output_tokens)} output, {count(result.prompt_tokens)} prompt"
    ways = ", ".join(
        f"{count(n, 'answer')} {_COUNTED[way]}"
        for way, n in result.tokens_from.items()
        if way in _COUNTED
    )
    return f"{told} ({ways})" if ways else told


def _cost(result: Result) -> Iterator[tuple[str, str]]:
    cost = result.cost
    if cost is None:
        return
    parts = [
        f"{money(cost.per_million_output_tokens)} per million output tokens",
        f"{money(cost.per_thousand_requests)} per thousand answers",
    ]
    if cost.per_thousand_good_requests is not None:
        parts.append(f"{money(cost.per_thousand_good_requests)} per thousand good ones")
    yield "cost", f"at {money(cost.price_per_hour)} an hour: {', '.join(parts)}"


def _fairness(result: Result) -> Iterator[tuple[str, str]]:
    fair = result.fairness
    if fair.jain_tokens is None:
        return
    parts = [f"Jain {fair.jain_tokens:.3f} by tokens"]
    if fair.jain_good is not None:
        parts.append(f"{fair.jain_good:.3f} by goodput")
    ends = fair.ttft_p95
    if ends is not None and (ends.worst_over_best or 1.0) >= _WORTH_TELLING:
        ratio = number(ends.worst_over_best)
        parts.append(
            f"TTFT p95 {ratio} times as long for {short(ends.worst)} as for {short(ends.best)}"
        )
    yield "fairness", ", ".join(parts)


def _worst_tenants(result: Result) -> Iterator[RenderableType]:
    """By goodput where there are objectives, else by answers; then by TTFT."""
    worst = sorted(result.tenants.items(), key=lambda one: _worst_first(one[1]))[:MOST_TENANTS]
    if len(worst) < len(result.tenants):
        yield Text(f"The {len(worst)} worst served of {len(result.tenants):,} tenants:")
    good = [] if result.goodput is None else ["good"]
    table = _table("tenant", "requests", "failed", *good, "TTFT p50", "p95", "tokens/s")
    table.columns[0].max_width = 26
    for name, of in worst:
        table.add_row(Text(printable(name), overflow="ellipsis", no_wrap=True), *_tenant(of))
    yield table


def _worst_first(of: GroupSummary) -> tuple[float, float, float]:
    requests = of.requests
    judged = requests.ok + requests.failed
    answered = requests.ok / judged if judged else 1.0
    good = 1.0 if of.goodput is None or of.goodput.share is None else of.goodput.share
    waited = of.e2e_s.p95 if of.ttft_s.p95 is None else of.ttft_s.p95
    return good, answered, -(waited or 0.0)


def _tenant(of: GroupSummary) -> Iterator[str]:
    yield count(of.requests.sent)
    yield count(of.requests.failed)
    if of.goodput is not None:
        yield share(of.goodput.share)
    yield seconds(of.ttft_s.p50)
    yield seconds(of.ttft_s.p95)
    yield number(of.throughput.output_tokens_per_s)


def _table(first: str, *columns: str) -> Table:
    """Of numbers, with a name in front."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(first)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table
