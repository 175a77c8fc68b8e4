"""What was run, in words: the load, the models, the phases, the machine."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.report.formats import digits, span
from loadtest.report.plots.source import short
from loadtest.report.result import Result

_ARRIVALS = {"poisson": "Poisson arrivals", "gamma": "gamma arrivals", "constant": "even arrivals"}
_NAMES = 4
_STAGES = 6


def load(workload: Mapping[str, Any]) -> str:
    """As `Poisson arrivals, 5 → 10 → 20 requests/s, 12 s each`."""
    arrivals = workload.get("arrivals") or {}
    kind = str(arrivals.get("kind", ""))
    if kind == "trace":
        speed = arrivals.get("speed") or 1
        return "replay of a trace" + ("" if speed == 1 else f", {speed:g} times as fast")
    stages = arrivals.get("stages") or []
    if kind == "closed":
        return f"closed loop, {_steps(stages, 'users')} users{_lengths(stages)}"
    words = _ARRIVALS.get(kind, kind)
    if kind == "gamma" and isinstance(arrivals.get("burstiness"), int | float):
        words += f" of burstiness {arrivals['burstiness']:g}"
    sessions = any(isinstance(one, Mapping) and one.get("sessions") for one in _mix(workload))
    unit = "sessions/s" if sessions else "requests/s"
    if all(_at_once(stage) for stage in stages):
        return f"{words}, all at once"
    return f"{words}, {_steps(stages, 'rate')} {unit}{_lengths(stages)}"


def facts(result: Result) -> list[tuple[str, str]]:
    """Names and values for the foot of the report."""
    machine, schedule = result.machine, result.schedule
    told = [
        ("Target", result.url),
        ("Load", load(result.workload)),
        ("Models", names(list(result.models))),
        ("Tenants", names([name for name in result.tenants if name]) or "none"),
        ("Warm-up", _phase(schedule.warmup_s, schedule.warmup_requests)),
        ("Cool-down", _phase(schedule.cooldown_s, 0)),
        ("Run", f"{span(result.seconds)}, {result.ended}"),
        ("Made at", f"{result.made_at:%Y-%m-%d %H:%M:%S %Z}"),
        ("Tester", f"Loraplex {machine.loraplex}, {_processes(result.processes)}"),
        ("Machine", f"{machine.processor}, {machine.cores} cores, "
                    f"{machine.memory_bytes / 2**30:.1f} GiB"),
        ("System", f"{machine.system}, Python {machine.python}"),
        ("Output tokens counted by", _tokens(result)),
        ("Schedule", schedule.digest),
    ]  # fmt: skip
    return [(name, value) for name, value in told if value]


def names(listed: Sequence[str]) -> str:
    """The first few, and how many there are."""
    if len(listed) <= _NAMES + 1:
        return ", ".join(map(short, listed))
    return f"{len(listed)}: {', '.join(map(short, listed[:_NAMES]))} …"


def _mix(workload: Mapping[str, Any]) -> Sequence[Any]:
    mix = workload.get("mix") or ()
    return mix if isinstance(mix, list | tuple) else ()


def _steps(stages: Sequence[Mapping[str, Any]], what: str) -> str:
    words = [_step(stage, what) for stage in stages]
    if len(words) > _STAGES:
        words = [*words[:3], "…", *words[-2:]]
    return " → ".join(words)


def _step(stage: Mapping[str, Any], what: str) -> str:
    begin, to = stage.get(what), stage.get("to")
    shown = "all at once" if _at_once(stage, what) else f"{float(begin or 0):g}"
    return shown if to is None else f"{shown} ↗ {float(to):g}"


def _at_once(stage: Mapping[str, Any], what: str = "rate") -> bool:
    """An infinite rate, which JSON tells as null."""
    begin = stage.get(what)
    return begin is None or math.isinf(float(begin))


def _lengths(stages: Sequence[Mapping[str, Any]]) -> str:
    lengths = {stage.get("seconds") for stage in stages}
    if len(lengths) != 1 or None in lengths:
        total = sum(stage.get("seconds") or 0.0 for stage in stages)
        return f", {span(total)} in all" if total and None not in lengths else ""
    (seconds,) = lengths
    return f", {span(seconds)}{' each' if len(stages) > 1 else ''}"


def _phase(seconds: float, requests: int) -> str:
    parts = [span(seconds)] if seconds else []
    parts += [f"the first {requests} requests"] if requests else []
    return " and ".join(parts) or "none"


def _processes(many: int) -> str:
    return "1 process" if many == 1 else f"{many} processes"


def _tokens(result: Result) -> str:
    words = {"server": "the server", "tokenizer": "the tokenizer", "events": "events of the stream"}
    return ", ".join(
        f"{words.get(how, how)} ({digits(many)} answers)"
        for how, many in result.tokens_from.items()
    )
