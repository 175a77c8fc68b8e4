"""`--dry-run`: what would be sent, first requests first. No prompt and no key is shown."""

import json
from itertools import islice
from typing import Any, Literal

from loadtest.command.saying import note, out
from loadtest.samples import Planned
from loadtest.workload.schedule import Extent, digest, extent, schedule
from loadtest.workload.spec import Workload

_FIRST = 20
_DIGEST_REQUESTS = 1000
"""As many as a result's digest is made of."""


def preview(workload: Workload, *, as_json: bool) -> None:
    """Shows the schedule's first requests. Raises WorkloadError."""
    planned = [*islice(schedule(workload), _FIRST)]
    expected = extent(workload)
    made_of = digest(workload, _DIGEST_REQUESTS)
    if as_json:
        told = {"digest": made_of, "seconds": expected.seconds, "arrivals": expected.arrivals}
        out(json.dumps(told | {"requests": [_told(one) for one in planned]}, indent=2))
        return
    _table(planned)
    note(f"{_all(expected)}; nothing was sent. Schedule {made_of[:12]}")


def _told(one: Planned) -> dict[str, Any]:
    names = (
        "index", "at_s", "tenant", "model", "route", "stream", "prompt_tokens", "max_tokens",
        "session", "turn", "think_s",
    )  # fmt: skip
    return {name: getattr(one, name) for name in names}


def _table(planned: list[Planned]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("after", "tenant", "model", "route", "prompt", "max_tokens", "session"):
        right = name in ("after", "prompt", "max_tokens")
        narrow = name not in ("tenant", "model")
        justify: Literal["right", "left"] = "right" if right else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=narrow)
    for one in planned:
        table.add_row(*(Text(cell) for cell in _cells(one)))
    Console().print(table)


def _cells(one: Planned) -> tuple[str, ...]:
    return (
        "an answer" if one.at_s is None else f"{one.at_s:.3f} s",
        one.tenant or "-",
        one.model,
        one.route.removeprefix("/v1/") + ("" if one.stream else ", plain"),
        "-" if one.prompt_tokens is None else f"{one.prompt_tokens}",
        f"{one.max_tokens}",
        "-" if one.session is None else f"{one.session}, {one.turn + 1} of {one.turns}",
    )


def _all(expected: Extent) -> str:
    many = "requests until the time is over" if expected.arrivals is None else None
    many = many or f"about {expected.arrivals:.0f} arrivals"
    return many if expected.seconds is None else f"{many} in {expected.seconds:g} s"
