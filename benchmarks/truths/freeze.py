"""An engine that freezes: what an open loop reports of it, what closed loops do, what is true."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.sides.machine import cores
from benchmarks.sides.question import Target as WrkTarget
from benchmarks.sides.wrk import run_wrk
from benchmarks.truths.cases import FREEZING, asked
from benchmarks.truths.engines import late, served
from benchmarks.truths.shapes import frozen_latencies, nearest_rank
from loadtest.client.target import Target
from loadtest.running.options import Options
from loadtest.running.run import run
from loadtest.statistics.measured import Measured
from loadtest.workload.schedule import schedule
from loadtest.workload.spec import Workload

Kind = Literal["open loop", "closed loop", "corrected"]
RATE = 50.0
USERS = (1, 8)


@dataclass(frozen=True)
class Told:
    """What a tester reported of the freezing engine; seconds. ttft_p99_s: None of one that reads no
    tokens. late: the engine's own lateness."""

    tester: str
    kind: Kind
    requests: int
    ttft_p99_s: float | None
    e2e_p99_s: float
    late: dict[str, float]


@dataclass(frozen=True)
class Truth:
    """The 99th percentiles that the engine's rule gives the schedule's own moments."""

    ttft_p99_s: float
    e2e_p99_s: float


def open_load(seconds: float) -> Workload:
    """Poisson arrivals, as from people who do not know of each other."""
    return asked({"kind": "poisson", "stages": [{"rate": RATE, "seconds": seconds}]}, seed=7)


def truth_of(workload: Workload) -> Truth:
    """The engine's periods begin with the first request."""
    moments = [one.at_s or 0.0 for one in schedule(workload)]
    ttft, e2e = frozen_latencies(FREEZING, [at_s - moments[0] for at_s in moments])
    return Truth(nearest_rank(ttft, 99), nearest_rank(e2e, 99))


def open_loop(folder: Path, seconds: float) -> Told:
    """Ours, open loop."""
    name = f"loadtest, open loop, {RATE:g} a second"
    return _ours(folder, name, "open loop", open_load(seconds))


def closed_loops(folder: Path, seconds: float) -> list[Told]:
    """Ours as a closed loop: each user asks when the answer before has come, and measures from
    there, as most testers do."""
    told = []
    for users in USERS:
        load = asked({"kind": "closed", "stages": [{"users": users, "seconds": seconds}]}, seed=7)
        name = f"loadtest, closed loop, {users} user{'s' if users > 1 else ''}"
        told.append(_ours(folder, name, "closed loop", load))
    return told


def wrk(folder: Path, seconds: float) -> Told:
    """wrk, a closed loop too; it then adds to its histogram the requests that it would have sent
    while it waited. Raises PeerMissing, ChildFailed."""
    connections = USERS[-1]
    with served(folder, "benchmarks.truths.engine", "freezing", "0") as url:
        seen = run_wrk(
            WrkTarget(url, "base"), b'{"model": "base", "messages": [], "stream": true}',
            connections=connections, seconds=seconds, core=cores()[0], folder=folder,
        )  # fmt: skip
        name = f"wrk, closed loop, {connections} connections, corrected afterwards"
        return Told(name, "corrected", seen.requests, None, seen.p99_ms / 1000, late(url))


def _ours(folder: Path, name: str, kind: Kind, load: Workload) -> Told:
    measured = Measured()
    with served(folder, "benchmarks.truths.engine", "freezing", "0") as url:
        outcome = run(load, Target(url), Options(), measured.add)
        if outcome.ended == "interrupted":
            raise KeyboardInterrupt
        every = measured.figures.summary().all
        assert every.ttft_s.p99 is not None
        assert every.e2e_s.p99 is not None
        return Told(name, kind, outcome.sent, every.ttft_s.p99, every.e2e_s.p99, late(url))
