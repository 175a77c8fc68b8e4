"""The report of a load test as one HTML page that needs nothing beside it: no scripts, no files."""

from collections.abc import Iterator

from loadtest.report import about, legend
from loadtest.report.formats import NOTHING, count, digits, money, number, share
from loadtest.report.groups import group_table
from loadtest.report.plots.distributions import SHOWN, by_group, distributions
from loadtest.report.plots.heat import heat_map
from loadtest.report.plots.over_time import MOST_POINTS, latency_over_time, load_over_time
from loadtest.report.plots.rates import (
    closed,
    knee_curve,
    latency_against_rate,
    throughput_against_rate,
)
from loadtest.report.plots.requests import request_timeline, window
from loadtest.report.plots.source import Group, Source, short, source
from loadtest.report.rendering import as_yaml, check_makers, drawn, render
from loadtest.report.result import Result
from loadtest.report.tiles import tiles
from loadtest.report.verdict import headline, judged, lines


def page(result: Result) -> str:
    """The page. Raises StatisticsError where the rows are damaged, or jinja2 or matplotlib is not
    installed."""
    check_makers()
    seen = source(result)
    tenants = [name for name in result.tenants if name]
    return render(
        "page.html.jinja",
        title=f"{headline(result).text}: {result.name}",
        result=result,
        headline=headline(result),
        lines=lines(result),
        load=about.load(result.workload),
        models=_models(result),
        tenants=count(len(tenants), "tenant") if tenants else "",
        has_tenants=bool(tenants),
        closed=closed(result.workload),
        tiles=tiles(result),
        latencies=legend.latencies(result),
        plots={name: drawn(svg) for name, svg in _plots(seen).items()},
        thinned=_thinned(seen),
        amounts=list(_amounts(result)),
        errors=sorted(result.errors.items(), key=lambda kind: -kind[1]),
        judged=judged(result),
        fairness=list(legend.fairness(result)),
        tenant_table=group_table(result.tenants, result.other_tenants, _colours(seen, "tenant")),
        model_table=group_table(result.models, result.other_models, _colours(seen, "model")),
        window_words=_window_words(seen),
        peers=legend.testers(result),
        facts=about.facts(result),
        workload=as_yaml(result.workload),
        legend=legend.LEGEND,
    )


def _plots(seen: Source) -> dict[str, str]:
    result = seen.result
    tenants, models = by_group(seen, "tenant"), by_group(seen, "model")
    return {
        "knee": "" if result.knee is None else knee_curve(result.knee),
        "rates": throughput_against_rate(result),
        "stages": "" if result.knee else latency_against_rate(seen),
        "latency": latency_over_time(seen),
        "load": load_over_time(result.timeline, seen),
        "cdf": distributions(result, tall=bool(tenants and models)),
        "cdf_tenants": tenants,
        "cdf_models": models,
        "heat_tenants": heat_map(seen, "tenant"),
        "heat_models": heat_map(seen, "model"),
        "requests": request_timeline(seen),
    }


def _models(result: Result) -> str:
    listed = list(result.models)
    return short(listed[0]) if len(listed) == 1 else count(len(listed), "model") if listed else ""


def _colours(seen: Source, group: Group) -> dict[str, int]:
    """The names that plots show in a colour of their own."""
    names = seen.names(group)
    return {names[place]: i for i, place in enumerate(seen.ranked(group)[:SHOWN])}


def _thinned(seen: Source) -> str:
    if len(seen.table) <= MOST_POINTS:
        return ""
    return f" ({MOST_POINTS:,} of {len(seen.table):,} are drawn, the slowest among them)"


def _window_words(seen: Source) -> str:
    shown = window(seen)
    words = "Each line runs from a request's intended sending to its end; a dot marks a failure."
    if not shown.worst:
        return words
    begin, end = (shown.rows["intended_s"][place] for place in (0, -1))
    chosen = f"The {len(shown.rows)} requests in a row that fared worst, from"
    return f"{chosen} {digits(float(begin))} s to {digits(float(end))} s. {words}"


def _amounts(result: Result) -> Iterator[tuple[str, str]]:
    """What came of it all, in amounts and by the second."""
    requests, throughput = result.requests, result.throughput
    yield "Requests", f"{requests.sent:,} measured, {requests.ok:,} answered"
    if throughput.requests_per_s is not None:
        yield "Answered", f"{number(throughput.requests_per_s)} requests/s"
    tokens = f"{result.output_tokens:,} in all"
    if throughput.output_tokens_per_s:
        tokens = f"{number(throughput.output_tokens_per_s)}/s, {tokens}"
    yield "Output tokens", tokens
    yield "Prompt tokens", f"{result.prompt_tokens:,} in all"
    if result.goodput is not None and result.goodput.share is not None:
        good = f"{share(result.goodput.share)}, {number(result.goodput.per_s)} requests/s"
        yield "Goodput", good
    yield "Cold starts", f"{result.cold_starts:,}" if result.cold_starts else "none seen"
    yield from _cost(result)
    outside = [f"{many:,} in {phase.replace('warmup', 'warm-up').replace('cooldown', 'cool-down')}"
               for phase, many in result.outside.items()]  # fmt: skip
    if outside:
        yield "Not measured", ", ".join(outside)


def _cost(result: Result) -> Iterator[tuple[str, str]]:
    cost = result.cost
    if cost is None:
        return
    yield "Price", f"{digits(cost.price_per_hour)} an hour"
    for name, value in (
        ("Per million output tokens", cost.per_million_output_tokens),
        ("Per million tokens, prompts too", cost.per_million_tokens),
        ("Per 1,000 answers", cost.per_thousand_requests),
        ("Per 1,000 good answers", cost.per_thousand_good_requests),
    ):
        if money(value) != NOTHING:
            yield name, money(value)
