"""The soak's page."""

from collections.abc import Mapping

from benchmarks.sides.report import table
from benchmarks.sides.verdicts import Verdict
from benchmarks.soaking.results import Books, Checkpoint, Results
from benchmarks.soaking.verdicts import verdicts

_HELD = {True: "held", False: "**not held**", None: "not known"}
_MIB = 2**20


def markdown(results: Results) -> str:
    """All of it."""
    books = results.books
    requests = 0 if books is None else books.mix.requests
    partial = "**Partial: the run was ended early.**\n" if results.partial else ""
    parts = [
        f"# A soak of {requests:,} requests, {results.started_at[:10]}\n",
        partial,
        _setting(results),
        "## What was to hold\n",
        verdict_table(verdicts(results)),
        _mix(results, books) if books is not None else "",
        _checkpoints(results),
    ]
    return "\n".join(part for part in parts if part)


def verdict_table(found: list[Verdict]) -> str:
    """Each claim, what was found, and whether it held."""
    return table(["claim", "found", ""], [[v.claim, v.measured, _HELD[v.held]] for v in found])


def _setting(results: Results) -> str:
    pairs = [
        ", ".join(f"{name} {value}" for name, value in facts.items())
        for facts in (results.machine, results.versions)
    ]
    return (
        f"Machine: {pairs[0]}. {pairs[1]}.\n\n"
        f"Command: `{results.command}`, {results.started_at}.\n\n"
        "The gateway has one core for itself, the client and the fast fake engine share another. A "
        "request is one whose head the client has sent whole. At each checkpoint nothing is asked, "
        "and the client keeps its connections; at `settled` it has closed them, and at `end` the "
        "engine has closed its own too. Remembered: the latest 100,000 completions, which feedback "
        "may name; for `start` and `end` they are forgotten, and garbage is collected.\n"
    )


def _mix(results: Results, books: Books) -> str:
    mix, engine = books.mix, results.engine
    rows = [["requests", f"{mix.requests:,}"]]
    rows += _rows("left", mix.cancelled) + _rows("refused", mix.refused) + _rows("", mix.paces)
    rows += _rows("cut off by the gateway:", mix.cut_off)
    rows += [
        ["connections left inside a request's head (no requests)", f"{mix.beginnings:,}"],
        ["connections", f"{mix.connections:,}"],
        ["connections that the client reset", f"{mix.resets:,}"],
    ]
    if engine is not None:
        rows += [
            ["calls reset by the engine", f"{engine.reset:,}"],
            ["calls that the engine saw abandoned", f"{engine.client_closed:,}"],
        ]
    statuses = sorted({*books.counted_by_status, *mix.answered_by_status})
    by_status = [
        [str(s), *(f"{of.get(s, 0):,}" for of in (books.counted_by_status, mix.answered_by_status))]
        for s in statuses
    ]
    parts = ["## What was asked\n", table(["", "number"], rows), "By status:\n"]
    parts.append(table(["status", "counted by the gateway", "came whole to the client"], by_status))
    if books.examples:
        parts += ["What should not have been:\n", *(f"- {one}" for one in books.examples), ""]
    return "\n".join(parts)


def _rows(what: str, counts: Mapping[str, int]) -> list[list[str]]:
    return [[f"{what} {name}".strip(), f"{count:,}"] for name, count in sorted(counts.items())]


def _checkpoints(results: Results) -> str:
    head = [
        "",
        "s",
        "requests",
        "RSS",
        "heap in use",
        "blocks in use",
        "remembered",
        "threads",
        "descriptors",
    ]
    head += ["clients' sockets", "engine's sockets", "tasks"]
    rows = [_checkpoint(each) for each in results.checkpoints]
    grown = results.objects_grown()
    notes = []
    if grown:
        types = ", ".join(f"{count:,} {name}" for name, count in grown.items())
        notes.append(f"Objects that are more at the end than at the start: {types}.\n")
    return "\n".join(["## Checkpoints\n", table(head, rows), *notes])


def _checkpoint(c: Checkpoint) -> list[str]:
    process, sockets = c.process, c.process.sockets
    return [
        c.name,
        f"{c.seconds:.0f}",
        f"{c.requests:,}",
        f"{process.rss_bytes / _MIB:.1f} MiB",
        f"{c.heap_bytes / _MIB:.1f} MiB",
        f"{c.blocks:,}",
        f"{c.remembered_bytes / _MIB:.1f} MiB",
        str(process.threads),
        str(process.descriptors),
        str(sockets.clients),
        str(sockets.engine),
        str(c.tasks),
    ]
