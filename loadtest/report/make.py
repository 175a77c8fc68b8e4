"""From what was measured to a Result."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from loadtest.client.target import Target
from loadtest.report.machine import Machine
from loadtest.report.result import Histograms, KneeSearch, Peers, Result, Schedule
from loadtest.running.options import Options
from loadtest.running.state import RunOutcome
from loadtest.statistics.conditions import Condition, facts, judge
from loadtest.statistics.cost import Cost, cost
from loadtest.statistics.figures import Summary
from loadtest.statistics.measured import Measured
from loadtest.statistics.peers import as_aiperf, as_guidellm, as_vllm
from loadtest.statistics.rows import pack
from loadtest.workload.errors import WorkloadError
from loadtest.workload.schedule import digest, extent
from loadtest.workload.spec import Workload

_DIGEST_REQUESTS = 1000
"""Enough to tell schedules apart, and made in a fraction of a second."""


@dataclass(frozen=True, slots=True)
class About:
    """What a result tells besides the figures."""

    made_at: datetime
    machine: Machine
    name: str | None = None
    price_per_hour: float | None = None
    conditions: Sequence[Condition] = ()
    role_chunks: bool = True
    """Whether the server's chat streams begin with a chunk without text, as vLLM's do."""


def make_result(
    measured: Measured,
    outcome: RunOutcome,
    workload: Workload,
    target: Target,
    options: Options,
    about: About,
    *,
    knee: KneeSearch | None = None,
) -> Result:
    """The result of one run. It tells no schedule where the workload's files are gone by now."""
    summary, every = measured.figures.summary(), measured.figures.all
    whole = summary.all
    told = facts(summary, tester_bound=outcome.tester.bound)
    return Result(
        name=about.name or about.made_at.strftime("%Y-%m-%d %H:%M:%S"),
        made_at=about.made_at,
        machine=about.machine,
        url=target.url,
        ended=outcome.ended,
        problem=outcome.problem,
        seconds=outcome.seconds,
        workload=workload.model_dump(mode="json", exclude_unset=True),
        schedule=_schedule(workload, options),
        requests=whole.requests,
        outside=summary.outside,
        unsent=outcome.unsent,
        errors=summary.errors,
        ttft_s=whole.ttft_s,
        itl_s=whole.itl_s,
        tpot_s=whole.tpot_s,
        e2e_s=whole.e2e_s,
        queue_s=whole.queue_s,
        throughput=whole.throughput,
        slo=None if measured.figures.slo is None else str(measured.figures.slo),
        goodput=whole.goodput,
        prompt_tokens=whole.prompt_tokens,
        output_tokens=whole.output_tokens,
        tokens_from=summary.tokens_from,
        cold_starts=whole.cold_starts,
        cold_ttft_s=whole.cold_ttft_s,
        fairness=summary.fairness,
        cost=_cost(summary, about.price_per_hour),
        lag_s=summary.lag_s,
        tester=outcome.tester,
        processes=outcome.processes,
        tenants=summary.tenants,
        other_tenants=summary.other_tenants,
        models=summary.models,
        other_models=summary.other_models,
        peers=Peers(
            vllm=as_vllm(every, measured.figures.peers, role_chunks=about.role_chunks),
            guidellm=as_guidellm(every, measured.figures.peers),
            aiperf=as_aiperf(every, measured.figures.peers),
        ),
        conditions=[judge(condition, told) for condition in about.conditions],
        knee=knee,
        timeline=measured.timeline.cells(),
        histograms=Histograms(
            ttft_s=every.ttft.to_json(),
            itl_s=every.itl.to_json(),
            tpot_s=every.tpot.to_json(),
            e2e_s=every.e2e.to_json(),
        ),
        rows=pack(measured.rows),
    )


def _schedule(workload: Workload, options: Options) -> Schedule:
    try:
        made_of, seconds = digest(workload, _DIGEST_REQUESTS), extent(workload).seconds
    except WorkloadError:  # The figures are worth more than what they were planned by.
        made_of, seconds = "", None
    return Schedule(
        digest=made_of,
        seconds=seconds,
        warmup_s=options.warmup_s,
        cooldown_s=options.cooldown_s,
        warmup_requests=options.warmup_requests,
        stop_after_s=options.stop_after_s,
    )


def _cost(summary: Summary, price_per_hour: float | None) -> Cost | None:
    if price_per_hour is None:
        return None
    whole = summary.all
    return cost(
        price_per_hour,
        whole.throughput.seconds,
        output_tokens=whole.output_tokens,
        prompt_tokens=whole.prompt_tokens,
        ok=whole.requests.ok,
        good=whole.goodput.good if whole.goodput else None,
    )
