"""Searches the knee: runs the workload at one rate after the other, as `loadtest.knee` asks."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from loadtest.client.target import Target, TargetError
from loadtest.knee import Ask, Knee, Plan, Probe, broken_off, next_rate
from loadtest.running.brake import Brake
from loadtest.running.guard import Guard, Limits
from loadtest.running.options import Options
from loadtest.running.run import run
from loadtest.running.sending import OnSample
from loadtest.running.state import Ended, OnProgress, RunOutcome
from loadtest.statistics.goodput import Slo
from loadtest.statistics.measured import Measured
from loadtest.statistics.probes import probe_of
from loadtest.workload.arrivals import Constant, Gamma, Poisson
from loadtest.workload.errors import WorkloadError
from loadtest.workload.spec import Workload
from loadtest.workload.stages import RateStage

SETTLE_S = 1.0
"""Between two probes, after the last answer: what a server cleans up then is not the next one's."""


@dataclass(frozen=True, slots=True)
class Probed:
    """A probe and the run it is made of."""

    probe: Probe
    measured: Measured
    outcome: RunOutcome
    workload: Workload
    options: Options


@dataclass(frozen=True, slots=True)
class Found:
    """The search's end."""

    knee: Knee
    probes: list[Probe]
    shown: Probed | None
    """The last run at the highest rate that held, else at the lowest that was probed; where no
    probe came to its end, the one that did not. None before any."""
    ended: Ended = "completed"
    problem: str | None = None
    """What is wrong with the target, and the fix, or that the tester failed, where that ended the
    search."""
    fault: Exception | None = None
    """The tester's own, which ended the search; its words may quote what a request held."""


class Runs(Protocol):
    """`loadtest.running.run.run`, as far as it is needed here."""

    def __call__(
        self,
        workload: Workload,
        target: Target,
        options: Options,
        on_sample: OnSample,
        *,
        on_progress: OnProgress | None,
        brake: Brake | None,
    ) -> RunOutcome: ...


def search(
    workload: Workload,
    target: Target,
    options: Options,
    slo: Slo,
    plan: Plan,
    *,
    probe_s: float,
    warmup_s: float,
    on_ask: Callable[[Ask, int, Measured, Workload], OnProgress | None],
    on_probed: Callable[[Probed], object],
    runs: Runs = run,
    sleep: Callable[[float], object] = time.sleep,
) -> Found:
    """Probes until the knee is found, or why not is known.

    Of the workload's arrivals only the kind counts, not its stages. A probe sends `warmup_s`,
    then measures `probe_s`, some of them longer, then sends `warmup_s` more, so that the last
    requests measured are answered under the same load as the first. It stops as soon as it cannot
    hold any more. on_ask: before each probe, with its number from 1 and what it will measure.
    Ctrl-C and a target that is not there end the search in order; `on_probed` is told of that
    probe too; a fault of the tester's own ends it with the probes before. Raises WorkloadError and
    TargetError before anything is sent.
    """
    at_rate(workload, plan.start, probe_s, 1)
    prober = _Prober(workload, target, options, slo, plan, probe_s, warmup_s, runs)
    done: list[Probed] = []
    cut: Probed | None = None
    try:
        while isinstance(asked := next_rate([one.probe for one in done], plan), Ask):
            if done:
                sleep(SETTLE_S)
            probed = prober.probe(asked, len(done) + 1, on_ask)
            on_probed(probed)
            if probed.outcome.ended != "completed":
                cut = probed
                break
            done.append(probed)
    except KeyboardInterrupt:
        return _found(done, None, plan, "interrupted", None)
    except (WorkloadError, TargetError):
        raise
    except Exception as error:
        problem = f"the tester failed ({type(error).__name__}); the probes before it are told"
        return replace(_found(done, None, plan, "interrupted", problem), fault=error)
    if cut is not None:
        return _found(done, cut, plan, cut.outcome.ended, cut.outcome.problem)
    return _found(done, None, plan, "completed", None)


def at_rate(workload: Workload, rate: float, seconds: float, number: int) -> Workload:
    """The workload of a probe: the same at a steady rate, with a seed of its own, so that a cache
    of prompts does not help. Raises WorkloadError where it is no open loop."""
    arrivals = workload.arrivals
    if not isinstance(arrivals, Poisson | Gamma | Constant):
        raise WorkloadError(
            f"arrivals: of kind `{arrivals.kind}` have no rate to search; give poisson, gamma or"
            " constant ones"
        )
    steady = arrivals.model_copy(update={"stages": (RateStage(rate=rate, seconds=seconds),)})
    said = hashlib.sha256(f"{workload.seed} probe {number}".encode()).digest()
    seed = int.from_bytes(said[:6], "big")
    return workload.model_copy(update={"arrivals": steady, "seed": seed, "requests": None})


class _Prober:
    """Makes one probe after the other."""

    def __init__(
        self,
        workload: Workload,
        target: Target,
        options: Options,
        slo: Slo,
        plan: Plan,
        probe_s: float,
        warmup_s: float,
        runs: Runs,
    ) -> None:
        self._workload = workload
        self._target = target
        self._options = replace(
            options, warmup_s=warmup_s, cooldown_s=warmup_s, warmup_requests=0, stop_after_s=None
        )
        self._slo = slo
        self._plan = plan
        self._probe_s = probe_s
        self._runs = runs

    def probe(
        self,
        ask: Ask,
        number: int,
        on_ask: Callable[[Ask, int, Measured, Workload], OnProgress | None],
    ) -> Probed:
        """Runs the workload at the rate asked."""
        measured_s, warmup_s = self._probe_s * ask.stretch, self._options.warmup_s
        workload = at_rate(self._workload, ask.rate, measured_s + 2 * warmup_s, number)
        measured = Measured(self._slo)
        on_progress = on_ask(ask, number, measured, workload)
        limits = Limits(
            self._slo, self._plan.target, warmup_s, ask.rate * measured_s,
            self._options.max_connections,
        )  # fmt: skip
        guard = Guard(measured, limits, on_progress)
        outcome = self._runs(
            workload, self._target, self._options, guard.add,
            on_progress=guard.tell, brake=guard.brake,
        )  # fmt: skip
        end_s = min(warmup_s + measured_s, max(warmup_s, outcome.seconds))
        probe = probe_of(measured, ask.rate, warmup_s, end_s, tester_bound=outcome.tester.bound)
        if guard.brake.pulled:
            probe = replace(probe, requests=max(1, probe.requests), sustained=False)
        return Probed(probe, measured, outcome, workload, self._options)


def _found(
    done: list[Probed], cut: Probed | None, plan: Plan, ended: Ended, problem: str | None
) -> Found:
    probes = [one.probe for one in done]
    knee = next_rate(probes, plan)
    if isinstance(knee, Ask):
        knee = broken_off(probes, plan, problem or "the search was interrupted")
    return Found(knee, probes, _shown(done, knee) or cut, ended, problem)


def _shown(done: list[Probed], knee: Knee) -> Probed | None:
    rates = [one.probe.rate for one in done]
    if not rates:
        return None
    rate = min(rates) if knee.holds is None else knee.holds
    return [one for one in done if one.probe.rate == rate][-1]
