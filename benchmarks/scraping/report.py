"""The scrape benchmark's results as JSON and as a page."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.scraping.fleet import Fleet
from benchmarks.scraping.load import CONNECTIONS
from benchmarks.scraping.rounds import MODES, Window, median_ratio, of_mode, ratios
from benchmarks.scraping.scraper import Scrape

LIMIT_S = 0.2
LIMIT_RATIO = 1.2
_SHARES = (0.4, 0.6)
"""Between these the rate counts as half the full one."""


@dataclass(frozen=True)
class Results:
    """All that one run found."""

    at: str
    machine: dict[str, str]
    versions: dict[str, str]
    fleet: Fleet
    lines: int
    """Of the text of one scrape."""
    subjects: int
    """Versions that the text names."""
    idle: list[Scrape]
    full_rate: float
    half_rate: float
    window_s: int
    windows: list[Window]

    @property
    def share(self) -> float:
        """The rate without scrapes over the full rate."""
        own = of_mode(self.windows, MODES[0].name)
        return statistics.median(one.requests_per_s for one in own) / self.full_rate

    @property
    def counts(self) -> bool:
        """Whether the load was what it was meant to be: nothing else took the machine."""
        return _SHARES[0] <= self.share <= _SHARES[1]

    def as_json(self) -> dict[str, Any]:
        """Without the keys of the tenants."""
        found = asdict(self)
        fleet = found["fleet"]
        fleet["active"] = len(fleet["active"])
        del fleet["model"]
        found |= {"share_of_full_rate": self.share, "counts": self.counts}
        return found | {"claims": dict(claims(self))}


def claims(results: Results) -> list[tuple[str, bool]]:
    """What the gateway promises, and whether it held."""
    loaded = [one.seconds for window in results.windows for one in window.scrapes]
    idle = [one.seconds for one in results.idle]
    claimed = [
        (
            f"the median scrape of an idle gateway takes under {LIMIT_S * 1e3:.0f} ms",
            statistics.median(idle) < LIMIT_S,
        ),
        (
            f"the median scrape at half the full rate takes under {LIMIT_S * 1e3:.0f} ms",
            statistics.median(loaded) < LIMIT_S,
        ),
    ]
    for mode in MODES[1:]:
        text = (
            f"with a scrape {mode.name} the relay's p99 is at most {LIMIT_RATIO} times that without"
        )
        claimed.append((text, median_ratio(results.windows, mode.name) <= LIMIT_RATIO))
    return claimed


def markdown(results: Results) -> str:
    """The page."""
    fleet = results.fleet
    size_mb = results.idle[-1].size_bytes / 1e6
    parts = [
        "# Scrapes of a large gateway",
        f"{results.at}. {_pairs(results.machine)}. {_pairs(results.versions)}.",
        f"{fleet.adapters:,} adapters of {fleet.tenants} tenants are registered (in "
        f"{fleet.seconds:.0f} s); {len(fleet.active)} of them have traffic, on two routes, plain "
        f"and streamed. One scrape has {results.lines:,} lines, {size_mb:.1f} MB, and names "
        f"{results.subjects} versions.",
        f"The relay carries plain requests to these by chance, over {CONNECTIONS} connections; its "
        f"full rate is {results.full_rate:,.0f} requests a second, and it runs at "
        f"{results.half_rate:,.0f}. Gateway alone on one core; load generator, scraper and fake "
        f"engine share the other. {results.window_s} s a window.",
        *([] if results.counts else [_does_not_count(results)]),
        "## Claims",
        "\n".join(
            f"- {'held' if held else '**not held**'}: {text}" for text, held in claims(results)
        ),
        "## Time of a scrape",
        _table(
            ("", "scrapes", "median ms", "max ms"),
            [_scrape_row("idle", results.idle)]
            + [_scrape_row(mode.name, _scrapes(results, mode.name)) for mode in MODES[1:]],
        ),
        "## The relay meanwhile",
        "Medians over the rounds; the ratio is taken within each round.",
        _table(
            (
                "scrapes",
                "requests/s",
                "p50 ms",
                "p99 ms",
                "max ms",
                "CPU",
                "p99 ratio",
                "of rounds",
            ),
            [_relay_row(results.windows, mode.name) for mode in MODES],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _does_not_count(results: Results) -> str:
    return (
        f"**These figures do not count**: the relay ran at {results.share:.0%} of its full rate "
        "instead of half, so something else took the machine. Run it again."
    )


def _scrapes(results: Results, mode: str) -> list[Scrape]:
    return [one for window in of_mode(results.windows, mode) for one in window.scrapes]


def _scrape_row(name: str, scrapes: Sequence[Scrape]) -> list[str]:
    times_ms = [one.seconds * 1e3 for one in scrapes]
    return [name, str(len(scrapes)), f"{statistics.median(times_ms):.0f}", f"{max(times_ms):.0f}"]


def _relay_row(windows: Sequence[Window], mode: str) -> list[str]:
    own = of_mode(windows, mode)
    row = [mode, f"{statistics.median(one.requests_per_s for one in own):,.0f}"]
    for field in ("p50_ms", "p99_ms", "max_ms"):
        row.append(f"{statistics.median(getattr(one, field) for one in own):.2f}")
    row.append(f"{statistics.median(one.cpu_share for one in own):.0%}")
    if mode == MODES[0].name:
        return [*row, "", ""]
    found = ratios(windows, mode)
    return [*row, f"{statistics.median(found):.2f}", f"{min(found):.2f} to {max(found):.2f}"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _pairs(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())
