"""The search for the knee against engines whose capacity is known.

`python -m benchmarks.truths.knees CASE URL SEED START PROBE_S FILE` makes one search, in a process
of its own as a user's is, and writes it to FILE.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.sides.processes import Child
from benchmarks.truths.cases import TARGET, Case, asked, knee_cases
from benchmarks.truths.engines import late, served, start, wait
from loadtest.client.target import Target
from loadtest.knee import Plan
from loadtest.running.options import Options
from loadtest.running.search import Probed, search
from loadtest.statistics.goodput import parse_slo

STARTS = (0.1, 0.37, 1.9)
"""Where repeats begin, as shares of the capacity: it must not matter."""
WARMUP_S = 2.0
_MOST_S = 1500.0


@dataclass(frozen=True)
class Searched:
    """One search. late: the engine's own lateness in seconds; lag_p99_s: the tester's worst."""

    case: str
    repeat: int
    start: float
    rate: float | None
    holds: float | None
    fails: float | None
    found: bool
    reason: str
    seconds: float
    requests: int
    lag_p99_s: float
    bound: int
    """Probes in which the tester was bound."""
    probes: list[dict[str, Any]]
    late: dict[str, float]


def searches(folder: Path, probe_s: float, repeats: int) -> Iterator[Searched]:
    """All cases at once, one repeat after the other."""
    cases = knee_cases()
    for repeat in range(repeats):
        with ExitStack() as engines:
            under_way = [_begin(engines, folder, case, repeat, probe_s) for case in cases]
            for case, (child, url, file) in zip(cases, under_way, strict=True):
                told = json.loads(wait(child, file, _MOST_S))
                yield Searched(case.engine, repeat, late=late(url), **told)


def _begin(
    stack: ExitStack, folder: Path, case: Case, repeat: int, probe_s: float
) -> tuple[Child, str, Path]:
    url = stack.enter_context(served(folder, "benchmarks.truths.engine", case.engine, str(repeat)))
    file = folder / f"knee-{case.engine}-{repeat}.json"
    first = case.capacity * STARTS[repeat % len(STARTS)]
    arguments = [case.engine, url, str(repeat), f"{first:.4g}", str(probe_s), str(file)]
    child = start("benchmarks.truths.knees", arguments, file.with_suffix(".log"))
    stack.callback(child.stop)
    return child, url, file


def search_case(case: Case, url: str, seed: int, first: float, probe_s: float) -> dict[str, Any]:
    """One search, as JSON: what Searched holds of it."""
    workload = asked({"kind": case.arrivals, "stages": [{"rate": 1, "seconds": 1}]}, seed=seed)
    probed: list[Probed] = []
    begun_s = time.monotonic()
    found = search(
        workload, Target(url), Options(), parse_slo(case.slo), Plan(start=first, target=TARGET),
        probe_s=probe_s, warmup_s=WARMUP_S, on_ask=lambda *_: None, on_probed=probed.append,
    )  # fmt: skip
    knee = found.knee
    return {
        "start": first,
        "rate": knee.rate,
        "holds": knee.holds,
        "fails": knee.fails,
        "found": knee.found,
        "reason": knee.reason,
        "seconds": time.monotonic() - begun_s,
        "requests": sum(one.outcome.sent for one in probed),
        "lag_p99_s": max(one.outcome.tester.lag_p99_s or 0.0 for one in probed),
        "bound": sum(one.outcome.tester.bound for one in probed),
        "probes": [
            asdict(one.probe) | {"reasons": one.outcome.tester.reasons, "share": one.probe.share}
            for one in probed
        ],
    }


def main() -> None:
    """A process of one search."""
    name, url, seed, first, probe_s, file = sys.argv[1:]
    (case,) = [one for one in knee_cases() if one.engine == name]
    told = json.dumps(search_case(case, url, int(seed), float(first), float(probe_s)))
    part = Path(file).with_suffix(".part")
    part.write_text(told)
    part.rename(file)


if __name__ == "__main__":
    main()
