"""Windows of traffic with and without scrapes, paired in rounds, and what they say."""

import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from benchmarks.scraping.gateway import Gateway
from benchmarks.scraping.load import Load, rate
from benchmarks.scraping.scraper import Periodic, Scrape


@dataclass(frozen=True)
class Mode:
    """How often there is a scrape."""

    name: str
    period_s: float | None


MODES = (Mode("none", None), Mode("every 5 s", 5.0), Mode("every second", 1.0))


@dataclass(frozen=True)
class Window:
    """One mode in one round; latencies are the relay's."""

    mode: str
    round: int
    requests_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    cpu_share: float
    """Of the gateway's one core."""
    scrapes: list[Scrape]


def measure(
    gateway: Gateway, load: Load, *, rounds: int, seconds: int, report: Callable[[Window], None]
) -> list[Window]:
    """Every mode in every round, the order moved on by one each time."""
    windows = []
    for number in range(rounds):
        for offset in range(len(MODES)):
            mode = MODES[(number + offset) % len(MODES)]
            windows.append(_window(gateway, load, mode, number, seconds))
            report(windows[-1])
    return windows


def _window(gateway: Gateway, load: Load, mode: Mode, number: int, seconds: int) -> Window:
    cpu_s = gateway.child.cpu_s()
    scraper = None if mode.period_s is None else Periodic(gateway.metrics_port, mode.period_s)
    with scraper or nullcontext():
        result = load.run(seconds)
    return Window(
        mode=mode.name,
        round=number,
        requests_per_s=rate(result),
        p50_ms=result.p50_ms,
        p90_ms=result.p90_ms,
        p99_ms=result.p99_ms,
        max_ms=result.max_ms,
        cpu_share=(gateway.child.cpu_s() - cpu_s) / result.seconds,
        scrapes=scraper.scrapes if scraper else [],
    )


def of_mode(windows: Sequence[Window], mode: str) -> list[Window]:
    """In the order of the rounds."""
    return sorted((one for one in windows if one.mode == mode), key=lambda one: one.round)


def ratios(windows: Sequence[Window], mode: str) -> list[float]:
    """p99 with scrapes over p99 without, round by round."""
    pairs = zip(of_mode(windows, mode), of_mode(windows, MODES[0].name), strict=True)
    return [scraped.p99_ms / plain.p99_ms for scraped, plain in pairs]


def median_ratio(windows: Sequence[Window], mode: str) -> float:
    """Of all rounds."""
    return statistics.median(ratios(windows, mode))
