"""The scrape benchmark's parts: the scraper, the arithmetic and the page."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scraping.fleet import Active, Fleet
from benchmarks.scraping.report import Results, claims, markdown
from benchmarks.scraping.rounds import MODES, Window, median_ratio, ratios
from benchmarks.scraping.scraper import Periodic, Scrape, ScrapeFailed, Scraper
from tests.test_metrics_server import listening, with_traffic

QUICK, SLOW = Scrape(0.05, 9_000_000), Scrape(0.25, 9_000_000)


def window(mode: str, number: int, p99_ms: float, *scrapes: Scrape) -> Window:
    return Window(
        mode=mode,
        round=number,
        requests_per_s=2500.0,
        p50_ms=1.0,
        p90_ms=2.0,
        p99_ms=p99_ms,
        max_ms=9.0,
        cpu_share=0.5,
        scrapes=[*scrapes],
    )


def results(*windows: Window, idle: Scrape = QUICK) -> Results:
    return Results(
        at="2026-01-02 03:04 UTC",
        machine={"cores": "2"},
        versions={"Python": "3.11"},
        fleet=Fleet(500, 10_000, 60.0, Path("/models/m"), [Active("t", "a", "the-secret-key")]),
        lines=75_000,
        subjects=500,
        idle=[idle],
        full_rate=5000.0,
        half_rate=2500.0,
        window_s=20,
        windows=[*windows],
    )


def rounds(scraped_p99_ms: float, scrape: Scrape = QUICK) -> list[Window]:
    """Two rounds without order; without scrapes the p99 is 2 and 4 ms."""
    return [
        window(
            mode.name,
            number,
            (2.0 + 2 * number) * (scraped_p99_ms if mode.period_s else 1),
            *([scrape] if mode.period_s else []),
        )
        for number in (1, 0)
        for mode in MODES
    ]


def test_ratios_are_taken_within_a_round() -> None:
    windows = [
        window("none", 1, 4.0),
        window("none", 0, 2.0),
        window("every second", 0, 3.0),
        window("every second", 1, 4.0),
    ]
    assert ratios(windows, "every second") == [1.5, 1.0]
    assert median_ratio(windows, "every second") == 1.25


@pytest.mark.parametrize(
    ("idle", "loaded", "ratio", "held"),
    [
        (QUICK, QUICK, 1.2, [True, True, True, True]),
        (SLOW, QUICK, 1.0, [False, True, True, True]),
        (QUICK, SLOW, 1.0, [True, False, True, True]),
        (QUICK, QUICK, 1.3, [True, True, False, False]),
    ],
)
def test_claims(idle: Scrape, loaded: Scrape, ratio: float, held: list[bool]) -> None:
    found = results(*rounds(ratio, loaded), idle=idle)
    assert [each for _, each in claims(found)] == held
    assert markdown(found).count("**not held**") == held.count(False)


@pytest.mark.parametrize(
    ("full_rate", "counts"), [(5000.0, True), (3000.0, False), (9000.0, False)]
)
def test_a_run_under_another_load_than_meant_does_not_count(full_rate: float, counts: bool) -> None:
    found = replace(results(*rounds(1.0)), full_rate=full_rate)
    assert found.counts == counts
    assert ("do not count" in markdown(found)) == (not counts)


def test_the_page_and_the_figures_tell_all_but_the_keys() -> None:
    found = results(*rounds(1.1))
    page, figures = markdown(found), json.dumps(found.as_json())
    assert "10,000 adapters of 500 tenants" in page
    assert "| every 5 s | 2 | 50 | 50 |" in page
    assert "| every second | 2,500 | 1.00 | 3.30 | 9.00 | 50% | 1.10 | 1.10 to 1.10 |" in page
    assert json.loads(figures)["fleet"]["active"] == 1
    assert "the-secret-key" not in page + figures


async def test_a_scrape_is_read_to_its_end_on_a_kept_connection() -> None:
    async with listening(with_traffic()) as client:
        text = (await client.get("/metrics")).content

        def twice() -> list[Scrape]:
            with Scraper(client.base_url.port or 0) as scraper:
                return [scraper.scrape() for _ in range(2)]

        scrapes = await asyncio.to_thread(twice)
    for scrape in scrapes:
        assert len(text) < scrape.size_bytes
        assert scrape.seconds > 0


async def test_what_is_no_scrape_is_refused() -> None:
    class Broken:
        def render(self) -> object:
            raise ValueError

    async with listening(Broken()) as client:
        port = client.base_url.port or 0

        def once() -> None:
            with Scraper(port) as scraper:
                scraper.scrape()

        with pytest.raises(ScrapeFailed, match="500"):
            await asyncio.to_thread(once)


async def test_scrapes_again_and_again_until_the_end() -> None:
    async with listening(with_traffic(1)) as client:
        periodic = Periodic(client.base_url.port or 0, 0.001)

        def until_three() -> int:
            with periodic:
                while len(periodic.scrapes) < 3:
                    time.sleep(0.001)
            return len(periodic.scrapes)

        ended_with = await asyncio.to_thread(until_three)
        assert (await client.get("/metrics")).status_code == 200
    assert ended_with == len(periodic.scrapes)
