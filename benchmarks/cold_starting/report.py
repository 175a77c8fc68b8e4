"""The cold starts as a page; pure."""

import statistics
from collections.abc import Callable, Sequence

from benchmarks.adapting.results import pairs
from benchmarks.cold_starting.results import (
    GATEWAY,
    PLAIN,
    Results,
    Trial,
    claims,
    median,
    of,
    ranks,
)
from benchmarks.sides.report import table

_PARTIAL = "**Partial: the run was ended before all was measured.**\n"
_HEAD = ["rank", "MB", "side", "cold ms", "of it the load", "warm ms", "cold over warm"]


def markdown(results: Results) -> str:
    """The page."""
    trials = results.trials
    rows = [
        _row(found)
        for rank in ranks(trials)
        for side in (GATEWAY, PLAIN)
        if (found := of(trials, side, rank))
    ]
    parts = [
        "# From a request for an adapter that is not loaded to its first token\n",
        *([_PARTIAL] if results.partial else []),
        f"{results.at}. {pairs(results.machine)}. {pairs(results.versions)}.\n",
        f"Command: `{results.command}`.\n",
        f"vLLM on the embedded model; {pairs(results.engine)}. One user, nothing else asked. Each "
        "adapter is asked once cold and once warm on each side, on the same engine, the sides "
        "taking turns to be the first; its file is in the page cache. On plain vLLM the user "
        "calls `/v1/load_lora_adapter` first. Medians, with the least and the most.\n",
        "## Claims\n",
        "\n".join(f"- {'held' if ok else '**not held**'}: {text}" for text, ok in claims(results)),
        "\n## Until the first token\n",
        table(_HEAD, rows),
        *_own(results),
        *(f"- {note}" for note in results.notes),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _row(found: Sequence[Trial]) -> list[str]:
    first = found[0]
    share = median(found, lambda one: one.load_ms / one.cold_ms)
    return [
        str(first.rank),
        f"{first.size_bytes / 1e6:.1f}",
        first.side,
        _spread(found, lambda one: one.cold_ms),
        f"{_spread(found, lambda one: one.load_ms)}, {share:.0%}",
        _spread(found, lambda one: one.warm_ms),
        f"{median(found, lambda one: one.cold_ms / one.warm_ms):.2f}x",
    ]


def _own(results: Results) -> list[str]:
    """What of the wait is the gateway's own."""
    rows = []
    for rank, load_ms in sorted(results.engine_load_ms.items()):
        waited = statistics.mean(one.load_ms for one in of(results.trials, GATEWAY, rank))
        rows.append([str(rank), f"{waited:.1f}", f"{load_ms:.1f}", f"{waited - load_ms:.1f}"])
    if not rows:
        return []
    return [
        "\nThe gateway reads an adapter's files again and checks their digest before each load.\n",
        table(["rank", "waited ms, mean", "vLLM's load ms, mean", "the gateway's own"], rows),
    ]


def _spread(found: Sequence[Trial], get: Callable[[Trial], float]) -> str:
    values = [get(one) for one in found]
    return f"{median(found, get):.0f} ({min(values):.0f}-{max(values):.0f})"
