"""Memory of the tester over many requests, in a process of its own.

`python -m benchmarks.truths.memory statistics REQUESTS FILE` feeds made-up samples as fast as it
goes; `... http URL SECONDS FILE` asks a fast engine in a closed loop.
Both write what they saw to FILE.
"""

import json
import os
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.truths.cases import asked
from loadtest.client.target import Target
from loadtest.report.machine import this_machine
from loadtest.report.make import About, make_result
from loadtest.report.result import write_result
from loadtest.running.options import Options
from loadtest.running.run import run
from loadtest.running.state import PartOutcome, Progress, RunOutcome, outcome_of
from loadtest.running.tester import OwnFigures
from loadtest.samples import Sample
from loadtest.statistics.goodput import parse_slo
from loadtest.statistics.measured import Measured
from loadtest.workload.spec import Workload

TENANTS = 1000
MODELS = 300
GAPS = 32
RATE = 100.0
"""So a million requests last close to three hours of the made-up run."""
USERS = 64
_PAGE = os.sysconf("SC_PAGE_SIZE")


def rss_bytes() -> int:
    """Resident memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def made_sample(index: int, rng: random.Random) -> Sample:
    """A streamed answer with gaps of its own, or now and then a failure."""
    at_s = index / RATE
    gaps = np.full(GAPS, 0.01 + 0.02 * rng.random())
    first_s = at_s + 0.05 + rng.expovariate(10)
    last_s = first_s + float(gaps.sum())
    failed = rng.random() < 0.01
    return Sample(
        index=index, tenant=f"tenant-{rng.randrange(TENANTS)}",
        model=f"adapter-{rng.randrange(MODELS)}", phase="measured", intended_s=at_s,
        sent_s=at_s + 1e-4, first_token_s=None if failed else first_s,
        last_token_s=None if failed else last_s, ended_s=last_s,
        gaps=np.zeros(0) if failed else gaps, events=0 if failed else GAPS + 1, prompt_tokens=100,
        output_tokens=None if failed else GAPS + 1, tokens_from="server",
        outcome="http_error" if failed else "ok", status=503 if failed else 200,
        error="http_503" if failed else None, cold_start=False, queue_s=0.01,
    )  # fmt: skip


def feed(requests: int, marks: int) -> dict[str, Any]:
    """Feeds the statistics; memory at each of `marks` equal steps, then that of writing."""
    measured, rng = Measured(parse_slo("ttft=500ms")), random.Random(0)
    steps = []
    begun_s = time.monotonic()
    for index in range(requests):
        measured.add(made_sample(index, rng))
        if (index + 1) % (requests // marks) == 0:
            steps.append([index + 1, rss_bytes()])
    seconds = time.monotonic() - begun_s
    outcome = outcome_of(
        PartOutcome("completed", None, requests / RATE, requests, 0, OwnFigures()), 1
    )
    load = asked({"kind": "constant", "stages": [{"rate": RATE, "seconds": requests / RATE}]})
    written = _write(measured, outcome, load, Target("http://127.0.0.1:9"))
    return {"seconds": seconds, "steps": steps} | written


def over_http(url: str, seconds: float) -> dict[str, Any]:
    """Asks as many as can be; memory each second."""
    load = asked({"kind": "closed", "stages": [{"users": USERS, "seconds": seconds}]})
    measured, steps = Measured(parse_slo("ttft=500ms")), list[list[float]]()

    def tell(progress: Progress) -> None:
        steps.append([progress.ended, rss_bytes()])

    target = Target(url)
    outcome = run(load, target, Options(), measured.add, on_progress=tell)
    return {"seconds": outcome.seconds, "steps": steps, "ended": outcome.ended} | _write(
        measured, outcome, load, target
    )


def _write(
    measured: Measured, outcome: RunOutcome, load: Workload, target: Target
) -> dict[str, Any]:
    """The peak of memory while result.json is made, and its size."""
    before = rss_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # From now on the peak counts anew.
    begun_s = time.monotonic()
    about = About(datetime.now(UTC), this_machine())
    result = make_result(measured, outcome, load, target, Options(), about)
    with TemporaryDirectory() as folder:
        size = write_result(result, Path(folder)).stat().st_size
    told = Path("/proc/self/status").read_text()
    (peak,) = [int(line.split()[1]) for line in told.splitlines() if line.startswith("VmHWM")]
    return {
        "before_writing_bytes": before,
        "peak_writing_bytes": peak * 1024,
        "file_bytes": size,
        "writing_s": time.monotonic() - begun_s,
    }


def main() -> None:
    """One measurement."""
    what, *rest, file = sys.argv[1:]
    made_up = what == "statistics"
    told = feed(int(rest[0]), 20) if made_up else over_http(rest[0], float(rest[1]))
    part = Path(file).with_suffix(".part")
    part.write_text(json.dumps(told))
    part.rename(file)


if __name__ == "__main__":
    main()
