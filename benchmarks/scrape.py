"""Scrapes of a gateway with 10,000 adapters: how long they take, and what the relay feels of them.

Timings are never a test: the report says what was measured and whether each claim held, and the
exit code is 0 either way.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402
from rich.console import Console  # noqa: E402

from benchmarks.scraping import gateway as gateways  # noqa: E402
from benchmarks.scraping.fleet import Fleet, register  # noqa: E402
from benchmarks.scraping.gateway import Gateway  # noqa: E402
from benchmarks.scraping.load import Load, touch_all  # noqa: E402
from benchmarks.scraping.report import Results, claims, markdown  # noqa: E402
from benchmarks.scraping.rounds import Window, measure  # noqa: E402
from benchmarks.scraping.scraper import Scrape, ScrapeFailed, Scraper  # noqa: E402
from benchmarks.sides import machine, peers  # noqa: E402
from benchmarks.sides.engine import Engine  # noqa: E402
from benchmarks.sides.processes import ChildFailed  # noqa: E402

_IDLE_SCRAPES = 20
_SHARE = 0.5


def main() -> int:
    """The exit code: 0 measured, 1 something is missing or failed, 130 ended by Ctrl-C."""
    options = _arguments()
    console = Console(stderr=True, highlight=False)
    if problem := machine.problem():
        console.print(problem)
        return 1
    machine.raise_file_limit()
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = _run(options, Path(folder), console)
    except (ChildFailed, ScrapeFailed, peers.PeerMissing) as error:
        console.print(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    _write(results, options.out, console)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=500, help="each with one active adapter")
    parser.add_argument("--adapters-each", type=int, default=20, help="adapters of a tenant")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=20, help="length of one window")
    parser.add_argument("--quick", action="store_true", help="50 tenants, one round, short windows")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    if options.quick:
        options.tenants, options.rounds, options.seconds = 50, 1, 5
    return options


def _run(options: argparse.Namespace, folder: Path, console: Console) -> Results:
    load_core, gateway_core = machine.cores()
    os.sched_setaffinity(0, {load_core})
    console.print("registering adapters")
    fleet = register(
        folder,
        options.tenants,
        options.adapters_each,
        lambda done: None if done % 1000 else console.print(f"  {done:,}"),
    )
    engine = Engine(folder, load_core)
    try:
        gateway = gateways.start(fleet, engine, folder, gateway_core)
        try:
            load = Load(gateway.url, fleet.active, load_core, folder)
            return _measure(options, fleet, gateway, load, console)
        finally:
            gateway.child.stop()
    finally:
        engine.stop()


def _measure(
    options: argparse.Namespace, fleet: Fleet, gateway: Gateway, load: Load, console: Console
) -> Results:
    asyncio.run(touch_all(gateway.url, fleet.active))
    lines, subjects = _look(gateway, fleet)
    full_rate, half_rate = load.slow_down(_SHARE)
    console.print(f"full rate {full_rate:,.0f}/s, now {half_rate:,.0f}/s")
    idle = _idle_scrapes(gateway)

    def report(window: Window) -> None:
        console.print(f"  round {window.round} {window.mode}: p99 {window.p99_ms:.2f} ms")

    windows = measure(gateway, load, rounds=options.rounds, seconds=options.seconds, report=report)
    return Results(
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine.describe(),
        versions=machine.versions(),
        fleet=fleet,
        lines=lines,
        subjects=subjects,
        idle=idle,
        full_rate=full_rate,
        half_rate=half_rate,
        window_s=options.seconds,
        windows=windows,
    )


def _look(gateway: Gateway, fleet: Fleet) -> tuple[int, int]:
    """Lines of the text, and the versions in it. Raises ScrapeFailed where one is missing."""
    url = f"http://127.0.0.1:{gateway.metrics_port}/metrics"
    text = httpx.get(url, timeout=60, trust_env=False).raise_for_status().text
    served = {
        (sample.labels["tenant"], sample.labels["adapter"])
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "loraplex_requests_total" and sample.labels["status"] == "200"
    }
    if missing := {(one.tenant, one.adapter) for one in fleet.active} - served:
        raise ScrapeFailed(f"{len(missing)} adapters are not in the text, such as {min(missing)}")
    return text.count("\n"), len(served)


def _idle_scrapes(gateway: Gateway) -> list[Scrape]:
    with Scraper(gateway.metrics_port) as scraper:
        return [scraper.scrape() for _ in range(_IDLE_SCRAPES)]


def _write(results: Results, out: Path, console: Console) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{results.at[:10]}-scrape"
    file.with_suffix(".json").write_text(json.dumps(results.as_json(), indent=1) + "\n")
    file.with_suffix(".md").write_text(markdown(results))
    for text, held in claims(results):
        console.print(f"{'held' if held else 'NOT HELD'}: {text}")
    if not results.counts:
        console.print(f"this does not count: the rate was {results.share:.0%} of the full one")
    console.print(f"written: {file}.md, {file}.json")


if __name__ == "__main__":
    sys.exit(main())
