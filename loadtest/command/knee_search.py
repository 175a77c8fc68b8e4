"""`--find-knee`: the search, watched; its result is the run that is shown with the curve."""

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from loadtest.client.target import Target
from loadtest.command.errors import CommandEnd, Usage
from loadtest.command.options import KneeOptions
from loadtest.command.saying import fail_with
from loadtest.command.single import Ran
from loadtest.command.values import bounds, share_of, time_s
from loadtest.knee import Ask, Plan, curve
from loadtest.report.result import KneeSearch
from loadtest.running.options import Options
from loadtest.running.phases import Phases
from loadtest.running.state import OnProgress
from loadtest.statistics.goodput import Slo
from loadtest.statistics.measured import Measured
from loadtest.workload.arrivals import ClosedLoop, Trace
from loadtest.workload.schedule import extent
from loadtest.workload.spec import Workload

if TYPE_CHECKING:
    from loadtest.running.search import Probed

_PROBE_S = 20.0
_WARMUP_S = 3.0


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched, and how."""

    plan: Plan
    probe_s: float
    warmup_s: float


def search_of(knee: KneeOptions, workload: Workload, options: Options) -> Search:
    """How to search, from the rate that the workload begins with. Raises Usage."""
    arrivals = workload.arrivals
    if isinstance(arrivals, ClosedLoop | Trace):
        raise Usage("--find-knee: searches a rate; leave out --users and --trace")
    stage = arrivals.stages[0]
    if len(arrivals.stages) > 1 or stage.to is not None or math.isinf(stage.rate):
        raise Usage("--find-knee: begins at one rate; give --rate as a number")
    usual = Plan()
    low, high = (usual.lowest, usual.highest) if knee.bounds is None else bounds(knee.bounds)
    share, near = knee.target_share, knee.tolerance
    try:
        plan = Plan(
            start=min(max(stage.rate, low), high),
            lowest=low,
            highest=high,
            target=usual.target if share is None else share_of(share, "--target-share"),
            tolerance=usual.tolerance if near is None else share_of(near, "--tolerance"),
            most_probes=knee.most_probes or usual.most_probes,
        )
    except ValueError as error:
        raise Usage(f"--find-knee: {error}") from None
    probe_s = _PROBE_S if knee.probe is None else time_s(knee.probe, "--probe")
    return Search(plan, probe_s, options.warmup_s or min(_WARMUP_S, probe_s / 4))


def search_watched(
    search: Search, workload: Workload, target: Target, options: Options, slo: Slo
) -> tuple[Ran, KneeSearch]:
    """Probes rate after rate, each watched; the run to show, and the search. Raises WorkloadError,
    TargetError; where no probe came to an end, CommandEnd, or KeyboardInterrupt after a Ctrl-C."""
    from loadtest.running.search import search as search_knee

    with _Watching(search, target.url) as watching:
        found = search_knee(
            workload,
            target,
            replace(options, warmup_s=0.0),
            slo,
            search.plan,
            probe_s=search.probe_s,
            warmup_s=search.warmup_s,
            on_ask=watching.ask,
            on_probed=watching.probed,
        )
    if found.fault is not None:
        fail_with(found.fault)
    shown = found.shown
    if shown is None:
        if found.ended == "interrupted" and found.problem is None:
            raise KeyboardInterrupt
        raise CommandEnd(f"--find-knee: {found.knee.reason}")
    knee = KneeSearch(
        knee=found.knee,
        levels=curve(found.probes, search.plan.target),
        target=search.plan.target,
        probe_s=search.probe_s,
        figures_of_rate=shown.probe.rate,
    )
    # How the search ended, not how the run that is shown did.
    outcome = replace(shown.outcome, ended=found.ended, problem=found.problem)
    return Ran(shown.measured, outcome, shown.workload, shown.options), knee


class _Watching:
    """Shows each probe as it runs, and its outcome after it."""

    def __init__(self, search: Search, url: str) -> None:
        from rich.console import Console

        self._search = search
        self._url = url
        self._console = Console(stderr=True)
        self._open = ExitStack()

    def __enter__(self) -> "_Watching":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def ask(self, ask: Ask, number: int, measured: Measured, workload: Workload) -> OnProgress:
        """Begins to show a probe."""
        from loadtest.view.live import LiveView

        self._open.close()
        # What comes after is sent under the same load, as long as what came before.
        seconds = 2 * self._search.warmup_s + self._search.probe_s * ask.stretch
        title = f"{self._url}, probe {number}: {ask.rate:g} requests/s"
        warmup_s = self._search.warmup_s
        phases = Phases(warmup_s, cooldown_from_s=seconds - warmup_s)
        requests = extent(workload).arrivals
        view = LiveView(self._console, measured, seconds, requests, title, phases=phases)
        return self._open.enter_context(view).progress

    def probed(self, probed: "Probed") -> None:
        """Ends it, and says what came of it."""
        from loadtest.view.knees import probe_line

        self._open.close()
        self._console.print(probe_line(probed.probe, self._search.plan.target))
