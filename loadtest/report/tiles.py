"""The few figures that a report shows large."""

from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.report.formats import digits, money, number, seconds, share
from loadtest.report.result import Result
from loadtest.report.verdict import judged
from loadtest.statistics.histogram import Spread


@dataclass(frozen=True, slots=True)
class Tile:
    label: str
    value: str
    unit: str
    below: str


def tiles(result: Result) -> list[Tile]:
    """Those that the run has."""
    return list(_tiles(result))


def _tiles(result: Result) -> Iterator[Tile]:
    if result.knee is not None and result.knee.knee.rate is not None:
        below = f"{100 * result.knee.target:g}% keep the objectives"
        yield Tile("Knee", digits(result.knee.knee.rate), "requests/s", below)
    throughput = result.throughput
    if throughput.requests_per_s is not None:
        below = f"{result.requests.ok:,} in {seconds(throughput.seconds)}"
        yield Tile("Answered", number(throughput.requests_per_s), "requests/s", below)
    if result.output_tokens:
        below = f"{number(throughput.total_tokens_per_s)}/s with prompts"
        yield Tile("Output", number(throughput.output_tokens_per_s), "tokens/s", below)
    for name, spread in (("TTFT", result.ttft_s), ("ITL", result.itl_s), ("E2E", result.e2e_s)):
        if spread.count:
            yield _latency(name, spread)
    yield from _shares(result)
    if result.cost is not None and result.cost.per_million_output_tokens is not None:
        price = f"output tokens, at {digits(result.cost.price_per_hour)} an hour"
        value = money(result.cost.per_million_output_tokens)
        yield Tile("Cost", value, "per million", price)


def _shares(result: Result) -> Iterator[Tile]:
    if judged(result):
        failed = result.requests.failed
        value = share(failed / judged(result)).removesuffix("%")
        yield Tile("Failed", value, "%", f"{failed:,} of {judged(result):,}")
    if result.goodput is not None and result.goodput.share is not None:
        value = share(result.goodput.share).removesuffix("%")
        yield Tile("Good", value, "%", f"{number(result.goodput.per_s)} good requests/s")


def _latency(name: str, spread: Spread) -> Tile:
    value, _, unit = seconds(spread.p95).rpartition(" ")
    return Tile(f"{name} p95", value, unit, f"p50 {seconds(spread.p50)}, p99 {seconds(spread.p99)}")
