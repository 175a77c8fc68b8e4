"""The results as Markdown: verdicts, tables, profiles; pure."""

from collections.abc import Callable, Iterable, Sequence

from benchmarks.sides.paced import Paced
from benchmarks.sides.profiler import Line, Profile
from benchmarks.sides.results import Results
from benchmarks.sides.rounds import (
    DIRECT,
    ROOM,
    Measure,
    counting_rounds,
    errors,
    of,
    ratios,
    room,
    summary,
)
from benchmarks.sides.verdicts import (
    SIDE,
    Verdict,
    added_p99_ms,
    chunks_per_cpu_s,
    chunks_per_s,
    p50_ms,
    requests_per_cpu_s,
    requests_per_s,
)
from benchmarks.sides.window import SCENARIOS, Scenario, Window

Column = tuple[str, Measure, Callable[[float], str]]
"""Title, value, form."""

_HELD = {True: "held", False: "**not held**", None: "not measured"}
_NUMBER = "{:,.0f}".format
_MS = "{:.2f} ms".format
_CPU = "{:.4f}".format
_PARTIAL = "**Partial: the run was ended before all was measured.**\n"
_BOUND = (
    "Bound by the engine or the load generator: compare CPU per 1,000 chunks or requests. "
    "Rounds that count: {count} of {of}; the engine alone was {room} times the fastest proxy, "
    f"and {ROOM} is asked for."
)


def markdown(results: Results) -> str:
    """The whole report."""
    partial = (
        "\n**Partial: the run was ended before all was measured.**\n" if results.partial else ""
    )
    parts = [
        f"# The relay beside its peers, {results.started_at[:10]}\n{partial}",
        _setting(results),
        _verdicts(results.verdicts()),
        *(_scenario(s, results.windows) for s in SCENARIOS if of(results.windows, s.name)),
        _paced("Many streams at a steady pace", results.paced),
        _paced("Many streams, two workers", results.many),
        *(_profile(profile) for profile in results.profiles),
        _notes(results.notes),
    ]
    return "\n".join(part for part in parts if part)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    line = "|" + "|".join(["---", *["---:"] * (len(head) - 1)]) + "|"
    body = ["| " + " | ".join(row) + " |" for row in [head, *rows]]
    return "\n".join([body[0], line, *body[1:]]) + "\n"


def _setting(results: Results) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    rows = [
        [side, ", ".join(f"{name} {version}" for name, version in found.items())]
        for side, found in results.versions.items()
        if found
    ]
    lines = [
        f"Machine: {machine}.",
        f"Command: `{results.command}`, {results.started_at}.",
        "The fake engine and the load generator share one core, the proxy has another for itself; "
        "each proxy is started anew in each round and runs alone. "
        "Figures are medians over the rounds, with the least and the most.",
    ]
    return "\n\n".join([*lines, table(["side", "versions"], rows)])


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    rows = [[v.claim, v.measured, _HELD[v.held]] for v in verdicts]
    return "## What was to be shown\n\n" + table(["claim", "measured", ""], rows)


def _scenario(scenario: Scenario, windows: Sequence[Window]) -> str:
    found = of(windows, scenario.name)
    sides = list(dict.fromkeys(window.side for window in found))
    seen, cost = _columns(scenario)
    by_side = {side: of(found, scenario.name, side) for side in sides}
    rows = [
        [
            side,
            *(_spread(mine, get, text) for _, get, text in seen),
            *("" if side == DIRECT else _spread(mine, get, text) for _, get, text in cost),
            _errors(mine),
        ]
        for side, mine in by_side.items()
    ]
    head = ["side", *(name for name, _, _ in [*seen, *cost]), "errors"]
    parts = [f"## {scenario.name}: {scenario.title}\n", table(head, rows)]
    return "\n".join([*parts, _ratio_table(scenario, found, sides), _validity(scenario, found)])


def _columns(scenario: Scenario) -> tuple[list[Column], list[Column]]:
    """What the client saw, and what it cost the proxy."""
    rate: Column = ("requests/s", requests_per_s, _NUMBER)
    cpu: Column = ("CPU s per 1,000 requests", _cpu_per_1000_requests, _CPU)
    if scenario.streamed:
        rate = ("chunks/s", chunks_per_s, _NUMBER)
        cpu = ("CPU s per 1,000 chunks", _cpu_per_1000_chunks, _CPU)
    return [rate, ("answer p50", p50_ms, _MS), ("answer p99", lambda w: w.p99_ms, _MS)], [
        cpu,
        ("proxy CPU", lambda w: w.cpu_s / w.seconds, "{:.0%}".format),
        ("RSS", lambda w: w.rss_bytes / 2**20, "{:.0f} MiB".format),
    ]


def _cpu_per_1000_chunks(window: Window) -> float:
    return window.cpu_s_per_1000_chunks


def _cpu_per_1000_requests(window: Window) -> float:
    return window.cpu_s_per_1000_requests


def _ratio_table(scenario: Scenario, windows: Sequence[Window], sides: Sequence[str]) -> str:
    """Loraplex over each other proxy, paired by round."""
    per_s, per_cpu_s = (
        (chunks_per_s, chunks_per_cpu_s)
        if scenario.streamed
        else (requests_per_s, requests_per_cpu_s)
    )
    peers = [side for side in sides if side not in (SIDE, DIRECT) and SIDE in sides]
    rows = []
    for peer in peers:
        found = (ratios(windows, scenario.name, SIDE, peer, m) for m in (per_s, per_cpu_s, p50_ms))
        rows.append([peer, *map(_times, found)])
    if not rows:
        return ""
    head = [f"{SIDE} over", "per second", "per CPU second of the proxy", "p50"]
    return table(head, rows)


def _validity(scenario: Scenario, windows: Sequence[Window]) -> str:
    factors = room(windows, scenario.name)
    counting = counting_rounds(windows, scenario.name)
    if not factors:
        return "The engine alone was not measured: nothing says what bounds these figures.\n"
    found = summary(factors.values())
    assert found is not None
    if len(counting) == len(factors):
        return (
            f"All rounds count: the engine alone was {found.low:.1f} times the fastest or more.\n"
        )
    text = _BOUND.format(count=len(counting), of=len(factors), room=f"{found.median:.2f}")
    return f"{text}\n"


def _paced(title: str, paced: Sequence[Paced]) -> str:
    if not paced:
        return ""
    first = paced[0]
    rows = [_paced_row(p, added_p99_ms(paced, p.side)) for p in paced]
    head = ["side", "chunks/s", "gap p50", "gap p99", "gap max", "added p99", "TTFT p99"]
    head += ["proxy CPU", "CPU s per 1,000 chunks", "RSS (growth)", "errors"]
    said = (
        f"{first.streams} streams, a token every {first.token_time_s * 1e3:g} ms, "
        f"{first.seconds:.0f} s; the client took {first.client_cpu_share:.0%} of its core and the "
        f"engine {first.engine_cpu_share:.0%}.\n"
    )
    kinds = {f"{p.side}: {kind}": count for p in paced for kind, count in p.errors.items()}
    lines = [f"- {count} x {kind}" for kind, count in kinds.items()]
    return "\n".join([f"## {title}\n", said, table(head, rows), *lines])


def _paced_row(p: Paced, added_ms: float | None) -> list[str]:
    rss = [size / 2**20 for size in p.rss_bytes]
    gaps = [p.itl.p50_ms, p.itl.p99_ms, p.itl.max_ms]
    row = [p.side, _NUMBER(p.chunks_per_s), *map(_MS, gaps)]
    failed = str(sum(p.errors.values()))
    if p.side == DIRECT:
        return [*row, "", _MS(p.ttft.p99_ms), "", "", "", failed]
    return [
        *row,
        "" if added_ms is None else _MS(added_ms),
        _MS(p.ttft.p99_ms),
        f"{p.proxy_cpu_share:.0%}",
        _CPU(p.cpu_s_per_1000_chunks),
        f"{min(rss):.0f}-{max(rss):.0f} MiB ({p.rss_growth:+.1%})" if rss else "",
        failed,
    ]


def _profile(profile: Profile) -> str:
    title = f"## Profile: {profile.scenario}\n"
    if not profile.by_own:
        return f"{title}\n{profile.note or 'no sample'}\n"
    said = f"{profile.samples} samples of the gateway's process at work (py-spy, by function).\n"
    parts = [title, said, "By own time:\n", _lines(profile.by_own)]
    return "\n".join([*parts, "By time with what it called:\n", _lines(profile.by_total)])


def _lines(lines: Sequence[Line]) -> str:
    rows = [[f"`{line.function}`", f"{line.own:.1%}", f"{line.total:.1%}"] for line in lines]
    return table(["function", "own", "total"], rows)


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    # What a process printed before it failed is in the JSON.
    lines = [f"- {note.splitlines()[0]}" for note in notes]
    return "\n".join(["## Notes\n", *lines]) + "\n"


def _spread(windows: Sequence[Window], get: Measure, text: Callable[[float], str]) -> str:
    found = summary(get(window) for window in windows)
    if found is None:
        return ""
    if found.count == 1:
        return text(found.median)
    return f"{text(found.median)} ({text(found.low)}-{text(found.high)})"


def _times(by_round: dict[int, float]) -> str:
    found = summary(by_round.values())
    return "" if found is None else f"{found.median:.2f} ({found.low:.2f}-{found.high:.2f})"


def _errors(windows: Sequence[Window]) -> str:
    found = errors(windows)
    return ", ".join(f"{count} {kind}" for kind, count in found.items()) or "0"
