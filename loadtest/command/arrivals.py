"""From the options of the load to a workload's `arrivals`."""

import math
from typing import Any

from loadtest.command.errors import Usage
from loadtest.command.flags import given
from loadtest.command.load_options import Kind, LoadOptions
from loadtest.command.values import pause, time_s
from loadtest.workload.errors import WorkloadError
from loadtest.workload.options import parse_stages

DEFAULT_RATE = "1"
"""A request a second tells much of any server and hurts none."""
DEFAULT_S = 60.0
_OPEN = set(Kind)
_ONLY_WITH = {
    "--think": ("closed", "--users or --turns"),
    "--speed": ("trace", "--trace"),
    "--trace-unit": ("trace", "--trace"),
}


def arrivals_of(load: LoadOptions, before: Any, *, turns: bool = False) -> dict[str, Any]:
    """Fields of the arrivals. before: those of the workload's file, if it has any. turns: whether
    requests come in sessions, whose users think too. Raises Usage."""
    chosen = [one for one in ("--rate", "--users", "--trace") if one in given(load)]
    if len(chosen) > 1:
        raise Usage(f"{chosen[1]}: stands beside {chosen[0]}; keep one of them")
    fields = dict(before) if isinstance(before, dict) else {}
    kind = _kind(load, fields)
    _check_fitting(load, kind, turns=turns)
    if kind == "closed":
        return _closed(load, fields)
    if kind == "trace":
        return _trace(load, fields)
    return _open_loop(load, fields, kind)


def _kind(load: LoadOptions, fields: dict[str, Any]) -> str:
    if load.users is not None:
        return "closed"
    if load.trace is not None:
        return "trace"
    before = fields.get("kind")
    if load.rate is None and before in ("closed", "trace"):
        return str(before)
    if load.arrivals is not None:
        return load.arrivals
    if load.burstiness is not None:
        return Kind.GAMMA
    return str(before) if before in _OPEN else Kind.POISSON


def _check_fitting(load: LoadOptions, kind: str, *, turns: bool) -> None:
    options = given(load)
    for option, (wanted, fix) in _ONLY_WITH.items():
        if option in options and kind != wanted and not (option == "--think" and turns):
            raise Usage(f"{option}: has no meaning here; it goes with {fix}")
    if kind not in _OPEN:
        for option in {"--arrivals", "--burstiness"} & {*options}:
            raise Usage(f"{option}: has no meaning here; it goes with --rate")
    if load.arrivals not in (None, Kind.GAMMA) and load.burstiness is not None:
        raise Usage(f"--burstiness: {load.arrivals} has none; give --arrivals gamma")


def _closed(load: LoadOptions, fields: dict[str, Any]) -> dict[str, Any]:
    found = _before(fields, "closed")
    if load.users is not None:
        found["stages"] = _stages(load, load.users, "users", "--users")
    else:
        _extend(load, found)
    if load.think is not None:
        found["think_s"] = pause(load.think, "--think")
    return found


def _trace(load: LoadOptions, fields: dict[str, Any]) -> dict[str, Any]:
    found = _before(fields, "trace")
    if load.trace is not None:
        found["path"] = str(load.trace.expanduser().absolute())
    if load.speed is not None:
        if not load.speed > 0:
            raise Usage("--speed: must be more than 0; 2 is twice as fast")
        found["speed"] = load.speed
    if load.trace_unit is not None:
        found["unit"] = str(load.trace_unit)
    if load.duration is not None:
        found["seconds"] = time_s(load.duration, "--duration")
    return found


def _before(fields: dict[str, Any], kind: str) -> dict[str, Any]:
    """The file's fields, where they are of that kind."""
    return dict(fields) if fields.get("kind") == kind else {"kind": kind}


def _open_loop(load: LoadOptions, fields: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": kind, "stages": fields.get("stages")}
    if load.rate is not None or fields.get("kind") not in _OPEN:
        found["stages"] = _stages(load, load.rate or DEFAULT_RATE, "rate", "--rate")
    else:
        _extend(load, found)
    if kind == Kind.GAMMA:
        found["burstiness"] = _burstiness(load, fields)
    return found


def _burstiness(load: LoadOptions, fields: dict[str, Any]) -> Any:
    found = fields.get("burstiness") if load.burstiness is None else load.burstiness
    if found is None:
        raise Usage("--arrivals: gamma needs --burstiness; 0.5 comes in bursts, 2 more evenly")
    if load.burstiness is not None and not load.burstiness > 0:
        raise Usage("--burstiness: must be more than 0; below 1 comes in bursts")
    return found


def _stages(load: LoadOptions, text: str, what: str, option: str) -> list[dict[str, Any]]:
    try:
        stages = parse_stages(text, what, _seconds(load), option)
    except WorkloadError as error:
        raise Usage(str(error)) from None
    endless = [stage for stage in stages if "seconds" not in stage]
    if any(math.isinf(stage.get("rate", 0)) for stage in stages):
        if load.requests is None:
            raise Usage("--rate: inf sends all at once; say how many with --requests")
        if len(stages) > 1:
            raise Usage("--rate: inf stands alone, without other steps")
    elif any(stage.get("rate") == 0 for stage in endless):
        raise Usage("--rate: nothing would be sent; give one above 0")
    elif endless and len(stages) > 1:
        raise Usage(f"{option}: steps need a time each; give --duration, or 10@30s for one")
    elif any("to" in stage for stage in endless):
        raise Usage(f"{option}: a ramp needs a time; give --duration, or 1..50@2m")
    return stages


def _seconds(load: LoadOptions) -> float | None:
    """Of a stage that names no time; None where a number of requests ends it."""
    if load.duration is not None:
        return time_s(load.duration, "--duration")
    return None if load.requests is not None else DEFAULT_S


def _extend(load: LoadOptions, found: dict[str, Any]) -> None:
    """Puts --duration into the file's stage."""
    if load.duration is None:
        return
    stages = found.get("stages")
    if not isinstance(stages, list) or len(stages) != 1 or not isinstance(stages[0], dict):
        raise Usage(
            "--duration: the workload's stages have their own times; change them there, or give"
            " --rate or --users too"
        )
    found["stages"] = [{**stages[0], "seconds": time_s(load.duration, "--duration")}]
