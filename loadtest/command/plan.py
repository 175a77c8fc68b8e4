"""All that the options say of a run, checked before anything is sent."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from loadtest.client.reply import Timeouts
from loadtest.command.errors import Usage
from loadtest.command.flags import given
from loadtest.command.load_options import LoadOptions
from loadtest.command.options import JudgeOptions, OutputOptions, RunOptions
from loadtest.command.values import pairs, time_s
from loadtest.running.options import Options
from loadtest.statistics.conditions import Condition, parse_condition
from loadtest.statistics.goodput import Slo, parse_slo
from loadtest.statistics.units import StatisticsError
from loadtest.workload.spec import Workload

_GRACE_S = 5.0
_NEEDS_SLO = ("goodput", "jain_goodput")


@dataclass(frozen=True, slots=True)
class Judging:
    """What the figures are held against."""

    slo: Slo | None
    conditions: tuple[Condition, ...]
    price_per_hour: float | None


def judging_of(options: JudgeOptions) -> Judging:
    """Raises Usage."""
    try:
        slo = None if options.slo is None else parse_slo(options.slo)
        conditions = tuple(parse_condition(text) for text in options.fail_if or ())
    except StatisticsError as error:
        raise Usage(str(error)) from None
    for one in conditions:
        if slo is None and one.fact.startswith(_NEEDS_SLO):
            raise Usage(f"--fail-if: `{one.fact}` needs objectives; give --slo")
    if options.price_per_hour is not None and not math.isfinite(options.price_per_hour):
        raise Usage("--price-per-hour: is no price; give a number, as 2.5")
    return Judging(slo, conditions, options.price_per_hour)


def options_of(run: RunOptions, load: LoadOptions, workload: Workload) -> Options:
    """How the run is done. Raises Usage, WorkloadError."""
    return Options(
        warmup_s=0.0 if load.warmup is None else time_s(load.warmup, "--warmup"),
        warmup_requests=load.warmup_requests,
        cooldown_s=0.0 if load.cooldown is None else time_s(load.cooldown, "--cooldown"),
        timeouts=_timeouts(run.timeout),
        max_connections=run.max_connections,
        processes=run.processes,
        tokenizer=workload.tokenizer,
        keep_going=run.keep_going,
        grace_s=_GRACE_S if run.grace is None else time_s(run.grace, "--grace"),
    )


def labels_of(options: OutputOptions) -> Mapping[str, str]:
    """Of the push, which is checked: a wrong address must not be told after an hour's run. Raises
    Usage."""
    labels = pairs(options.push_label, "=", "--push-label")
    if options.push is None:
        if alone := [one for one in given(options) if one.startswith("--push-")]:
            raise Usage(f"{alone[0]}: has no meaning without --push URL")
        return labels
    from loadtest.report.push import PushError, check_push

    try:
        check_push(options.push, options.push_job, labels)
    except PushError as error:
        raise Usage(str(error)) from None
    return labels


def _timeouts(text: str | None) -> Timeouts:
    usual = Timeouts()
    if text is None:
        return usual
    total_s = time_s(text, "--timeout")
    return Timeouts(
        connect_s=min(usual.connect_s, total_s),
        first_byte_s=total_s,
        idle_s=min(usual.idle_s or total_s, total_s),
        total_s=total_s,
    )
