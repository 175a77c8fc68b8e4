"""The testers' page; pure."""

import statistics
from collections.abc import Sequence

from benchmarks.testing.figures import CLAIMED, OURS
from benchmarks.testing.results import STANDARDS, Results, Standard, claims, shown_figures

_HOW = (
    "The engine (`loadtest.fake_vllm --fast`: vLLM's JSON, every running stream gets its token in "
    "the same step, one write each) has one core, the tester that is measured the other. *Ours* is "
    "what a user runs: schedule, client and all statistics."
)
_AGREEMENT = (
    "One after the other against the same engine in turns, {agreement}. *ours*: by our own "
    "definitions; *ours, its way*: the same run by the peer's (`loadtest/statistics/peers.py`); "
    "both and the peer's are medians over the rounds, and so is the ratio, which is taken within "
    "each round. The claim is about {claimed}; a 99th percentile of so few requests is shown, and "
    "is no claim."
)
_SPEED = (
    "Streams of 128 tokens, a token every {token}, {at_once}, at a rate that rises by a quarter "
    "until it does not hold, then between. A rate holds where every request is answered, at the "
    "rate asked (within 5 %), with a mean ITL within 5 % of, and a TTFT at most 10 ms above, what "
    "the same tester says of the same engine at 21.7 requests/s. Which TTFT: by the first standard "
    "the median and the 99th percentile, for every side; by the second the median alone, and a "
    "tester whose tail is its own still counts. To the TTFT is added what the engine itself takes "
    "to write to every stream that runs (their number by the tokens a second that wrk reads), "
    "since a new stream's first token is the last of a step. Ours must satisfy its own verdict "
    "besides, in both: CPU, lag of sending and delay of reading at the 99th percentile. {attempts}"
)
_FLOOD = (
    "The same engine without any waiting, a closed loop: how much goes through a tester that may "
    "fall behind as far as it likes. The engine is then as slow as its reader: what has piled up "
    "comes in one read, which is cheaper for all, and the latencies say how far behind the tester "
    "is. That is no claim: the engine has no room there, and a tester that reports such latencies "
    "reports its own."
)


def markdown(results: Results) -> str:
    """The whole page."""
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    versions = ", ".join(
        f"{name} {value}" for side in results.versions.values() for name, value in side.items()
    )
    parts = [
        "# The load test beside its peers",
        *(["**Partial: the run was ended before all was measured.**"] if results.partial else []),
        f"{results.at}. {machine}. {versions}.",
        f"`{results.command}`",
        _HOW,
        "## Claims",
        "\n".join(f"- {one}" for one in claims(results)),
        *_agreement(results),
        *_speed(results),
        *_flood(results),
        *(["## Notes", "\n".join(f"- {note}" for note in results.notes)] if results.notes else []),
    ]
    return "\n\n".join(parts) + "\n"


def _agreement(results: Results) -> list[str]:
    if not results.agreed:
        return []
    how = _AGREEMENT.format(
        agreement=results.loads.get("agreement", ""), claimed=", ".join(CLAIMED)
    )
    tables = []
    for peer in results.peers:
        rows = [_figure(results, peer, name) for name in shown_figures(results, peer)]
        if rows:
            head = ("figure", "ours", f"ours, its way ({peer})", peer, "ratio", "of rounds")
            tables.append(_table(head, rows))
    return ["## The same figures", how, *tables]


def _figure(results: Results, peer: str, name: str) -> list[str]:
    pairs = results.pairs(peer, name)
    ratios = [ours / theirs for _, ours, theirs in pairs]
    unit, by = ("", 1.0) if "/s" in name else (" ms", 1e3)
    middles = [statistics.median(pair[place] for pair in pairs) * by for place in range(3)]
    return [
        name,
        *(f"{value:,.2f}{unit}" for value in middles),
        f"{statistics.median(ratios):.4f}",
        f"{min(ratios):.4f} to {max(ratios):.4f}",
    ]


def _speed(results: Results) -> list[str]:
    if not results.tried:
        return []
    rows = [
        _most(results, side, standard) for standard in STANDARDS for side in (OURS, *results.peers)
    ]
    engine = ", ".join(f"{one:,.0f}" for one in results.engine_tokens_per_s)
    return [
        "## Tokens a second before the tester is bound",
        _SPEED.format(
            attempts=results.loads.get("attempts", ""),
            at_once=results.loads.get("at once", ""),
            token=results.loads.get("token", ""),
        ),
        f"The engine alone, read by wrk: {engine} tokens/s.",
        _table(
            ("TTFT", "tester", "sustained tokens/s", "by round", "least that did not hold"), rows
        ),
        _tries(results),
    ]


def _most(results: Results, side: str, standard: Standard) -> list[str]:
    most = results.middle(side, standard)
    missed = [one for one in results.tried if one.side == side and not one.held(standard)]
    least = min(missed, key=lambda one: one.load.offered, default=None)
    return [
        standard,
        side,
        "none" if most is None else f"{most:,.0f}",
        ", ".join(f"{one:,.0f}" for one in results.sustained(side, standard)),
        "" if least is None else f"{least.load.offered:,.0f}: {'; '.join(least.wrong[standard])}",
    ]


def _tries(results: Results) -> str:
    rows = [
        [
            f"{one.side}, round {one.round + 1}",
            f"{one.load.offered:,.0f}",
            f"{one.told.figures['TTFT p50'] * 1e3:.1f} ms",
            f"{one.told.figures.get('TTFT p99', 0.0) * 1e3:.1f} ms",
            f"{one.told.figures['ITL mean'] * 1e3:.2f} ms",
            "" if one.told.cpu_share is None else f"{one.told.cpu_share:.0%}",
            "yes" if one.held("p50") else "no",
            "yes" if one.held("p99") else "no: " + "; ".join(one.wrong["p99"]),
        ]
        for one in results.tried
    ]
    head = (
        "tester", "offered tokens/s", "TTFT p50", "TTFT p99", "ITL mean", "own CPU",
        "holds by p50", "holds by p99",
    )  # fmt: skip
    return "All that was tried:\n\n" + _table(head, rows)


def _flood(results: Results) -> list[str]:
    if not results.flooded:
        return []
    rows = [
        [
            one.side,
            str(one.users),
            f"{one.told.figures['output tokens/s']:,.0f}",
            f"{one.told.figures['TTFT p50'] * 1e3:.1f} ms",
            f"{one.told.figures.get('TTFT p99', 0.0) * 1e3:.1f} ms",
        ]
        for one in results.flooded
    ]
    head = ("tester", "users", "tokens/s", "TTFT p50", "TTFT p99")
    return ["## As fast as it goes", _FLOOD, _table(head, rows)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
