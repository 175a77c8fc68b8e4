"""The merge benchmark's page; pure."""

import statistics
from collections.abc import Callable, Sequence

from benchmarks.merging.results import Errors, Results, Window, claims
from benchmarks.merging.sides import OURS, SIDES

_MIB, _GB = 2**20, 1e9
_HEAD = (
    "side",
    "seconds",
    "of rounds",
    "on disk s",
    "CPU s",
    "peak MiB",
    "of files",
    "largest process",
    "written GB",
    "beside it GB",
)
_HOW = (
    "Each side runs in a process of its own, in an order that moves on by one each round, after "
    "`sync` and one reading of the whole base and adapter, so that the page cache holds them and "
    "no other side's writing is under way. Nothing is kept from one run to the next. *seconds*: "
    "from the start of the command to its end, imports included; Loraplex has then written its "
    "result to the disk (`fsync`), the others have left it to the kernel. *on disk s*: with a "
    "`sync` behind it. *peak MiB*: the most that the command and all its processes had resident at "
    "once, looked at every 50 ms, or the kernel's own peak of the largest one where that is more; "
    "*of files*: the most of it that was mapped from files, libraries and weights; *largest "
    "process*: the kernel's own peak of one process. *written GB*: pages made dirty (`write_bytes` "
    "of `/proc/PID/io`). *beside it GB*: the most that lay on the disk beside the result. Medians "
    "over the rounds, and the least and the most in brackets."
)


def markdown(results: Results) -> str:
    """The whole page."""
    where = results.machine | results.versions
    shape = ", ".join(f"{name} {value}" for name, value in results.shape.items())
    parts = [
        "# Merging beside PEFT and mergekit",
        *(["**Partial: the run was ended before all was measured.**"] if results.partial else []),
        f"{results.at}. {', '.join(f'{name} {value}' for name, value in where.items())}.",
        f"`{results.command}`",
        f"Made bases in bfloat16, shaped as Llama's and sharded: {shape} at "
        f"{results.compared:g} GB, other sizes by more or fewer layers, so that the largest tensor "
        f"always has {results.largest_bytes / _MIB:.0f} MiB. The adapter has rank 16 on every "
        "linear layer and is in float32.",
        _HOW,
        "## Claims",
        "\n".join(f"- {one}" for one in claims(results)),
        *(_size(results, size) for size in _sizes(results)),
        *_errors(results),
        *_starts(results),
        *(["## Notes", "\n".join(f"- {note}" for note in results.notes)] if results.notes else []),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _sizes(results: Results) -> list[float]:
    return sorted({window.size_gb for window in results.windows})


def _size(results: Results, size: float) -> str:
    sides = [side for side in SIDES if results.of(side, size)]
    rows = [_row(side, results.of(side, size)) for side in sides]
    return f"## {size:g} GB\n\n{_table(_HEAD, rows)}"


def _row(side: str, windows: Sequence[Window]) -> list[str]:
    def middle(value: Callable[[Window], float]) -> float:
        return statistics.median(value(window) for window in windows)

    times = [window.used.seconds for window in windows]
    return [
        side,
        f"{statistics.median(times):.1f}",
        f"{min(times):.1f} to {max(times):.1f}",
        f"{middle(lambda w: w.on_disk_s):.1f}",
        f"{middle(lambda w: w.used.cpu_s):.1f}",
        f"{middle(lambda w: w.used.peak_rss_bytes) / _MIB:,.0f}",
        f"{middle(lambda w: w.used.peak_file_bytes) / _MIB:,.0f}",
        f"{middle(lambda w: w.used.peak_process_bytes) / _MIB:,.0f}",
        f"{middle(lambda w: w.used.written_bytes) / _GB:.2f}",
        f"{middle(lambda w: w.temporary_bytes) / _GB:.2f}",
    ]


def _errors(results: Results) -> list[str]:
    if not results.errors:
        return []
    found = {one.side: one for one in results.errors}
    rows = [_error_row(one, found.get(OURS)) for one in results.errors]
    head = ("side", "largest", "mean", "not the nearest value", "tensors where ours is larger")
    return [
        f"## Error at {results.compared:g} GB",
        "Against base + scaling * B @ A in float64, over the tensors that the adapter changes; "
        "bfloat16 itself is why none is zero.",
        _table(head, rows),
    ]


def _error_row(errors: Errors, ours: Errors | None) -> list[str]:
    larger = ""
    if ours is not None and errors is not ours:
        larger = str(sum(error > errors.largest[name] for name, error in ours.largest.items()))
    largest = max(errors.largest.values())
    return [errors.side, f"{largest:.3e}", f"{errors.mean:.3e}", f"{errors.off:.4%}", larger]


def _starts(results: Results) -> list[str]:
    if not results.starts:
        return []
    rows = [
        [
            one.side,
            SIDES[one.side].meaning,
            f"{one.used.seconds:.1f}",
            f"{one.used.peak_rss_bytes / _MIB:,.0f}",
        ]
        for one in results.starts
    ]
    return [
        "## Before any work",
        "The same on a base of a few hundred KB, once, before the rounds: imports, and the memory "
        "of the libraries. It also brings them into the page cache.",
        _table(("side", "what", "seconds", "peak MiB"), rows),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
