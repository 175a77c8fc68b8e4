"""One run, watched; what was measured is handed on whatever ends it."""

import time
from dataclasses import dataclass, replace

from loadtest.client.target import Target, TargetError
from loadtest.command.saying import fail_with
from loadtest.running.options import Options
from loadtest.running.run import run
from loadtest.running.state import RunOutcome
from loadtest.running.tester import OwnFigures, judge
from loadtest.statistics.goodput import Slo
from loadtest.statistics.measured import Measured
from loadtest.workload.errors import WorkloadError
from loadtest.workload.schedule import Extent, extent
from loadtest.workload.spec import Workload

_NO_MODEL = "has no model"


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a run."""

    measured: Measured
    outcome: RunOutcome
    workload: Workload
    options: Options


def run_watched(
    workload: Workload, target: Target, options: Options, slo: Slo | None, *, models: str | None
) -> Ran:
    """Sends the workload while the terminal shows how it goes. models: what the server has, for a
    message that a model is not there. Raises WorkloadError and TargetError before anything is
    sent; any other error ends the run, and is told in `outcome.problem`."""
    from rich.console import Console

    from loadtest.view.live import LiveView

    measured = Measured(slo)
    expected = extent(workload)
    begin_s = time.perf_counter()
    try:
        with LiveView(
            Console(stderr=True),
            measured,
            expected_seconds(expected, options),
            expected.arrivals,
            target.url,
            phases=options.phases(expected.seconds),
        ) as view:
            outcome = run(workload, target, options, measured.add, on_progress=view.progress)
    except (WorkloadError, TargetError):
        raise
    # A fault of the tester's own must not take with it what was measured.
    except Exception as error:
        fail_with(error)
        outcome = _broken_off(error, measured, time.perf_counter() - begin_s, options)
    if models is not None and outcome.problem is not None and _NO_MODEL in outcome.problem:
        outcome = replace(outcome, problem=f"{outcome.problem}; the server has {models}")
    return Ran(measured, outcome, workload, options)


def expected_seconds(expected: Extent, options: Options) -> float | None:
    """When the last request is sent, as far as it is known."""
    return options.end_s(expected.seconds)


def _broken_off(
    error: Exception, measured: Measured, seconds: float, options: Options
) -> RunOutcome:
    problem = f"the tester failed ({type(error).__name__}); the figures are those of what was run"
    sent = measured.rows.seen
    return RunOutcome(
        "interrupted", problem, seconds, sent, 0, judge(OwnFigures()), options.processes
    )
