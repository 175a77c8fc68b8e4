"""Where Loraplex comes out behind, read from the newest results; pure."""

import re
from collections.abc import Iterator, Mapping

from benchmarks.adapting.results import WARM_SHARE
from benchmarks.paging.reading import Report, Table

_OURS = "loraplex"
_NUMBER = re.compile(r"-?[\d,]+(?:\.\d+)?")
_CLEARLY = 0.05
"""Less behind than this is no loss that a measurement shows."""


def losses(reports: Mapping[str, Report]) -> list[str]:
    """A line each. reports: by name."""
    return [
        *_not_held(reports),
        *_behind_on_the_relay(reports),
        *_dearer(reports),
        *_fewer_than_plain(reports),
    ]


def _not_held(reports: Mapping[str, Report]) -> Iterator[str]:
    for report in reports.values():
        for claim in report.claims:
            if not claim.held:
                yield f"Not held ({report.name}): {claim.text}."


def _behind_on_the_relay(reports: Mapping[str, Report]) -> Iterator[str]:
    """Of the tables `loraplex over | per second | per CPU second of the proxy | p50`."""
    for heading, table in _tables(reports, "relay"):
        if table.head[0] != f"{_OURS} over":
            continue
        for peer, *cells in table.rows:
            told = [
                f"{number(cell):.2f} of it {name}"
                for name, cell in zip(table.head[1:], cells, strict=True)
                if name != "p50" and cell and number(cell) < 1 - _CLEARLY
            ]
            told += [
                f"{number(cell):.2f} times its p50"
                for name, cell in zip(table.head[1:], cells, strict=True)
                if name == "p50" and cell and number(cell) > 1 + _CLEARLY
            ]
            if told:
                yield f"{heading.partition(':')[0]} (relay), beside {peer}: {', '.join(told)}."


def _dearer(reports: Mapping[str, Report]) -> Iterator[str]:
    """Steady streams: where a peer's proxy takes less of a core."""
    for _, table in _tables(reports, "relay-paced-peers"):
        at = table.column("proxy CPU")
        shares = {} if at is None else {row[0]: number(row[at]) for row in table.rows if row[at]}
        ours = shares.get(_OURS)
        less = [f"{peer} {share:.0f} %" for peer, share in shares.items() if ours and share < ours]
        if ours and less:
            yield f"Steady streams (relay-paced-peers): {ours:.0f} % of a core, {', '.join(less)}."


def _fewer_than_plain(reports: Mapping[str, Report]) -> Iterator[str]:
    """The gateway beside vLLM without one, where the claim held and it is behind all the same."""
    title = "gateway's requests/s over plain vLLM's"
    for _, table in _tables(reports, "adapters"):
        at = table.column(title)
        for row in table.rows if at is not None else []:
            share = number(row[at or 0])
            # Below that a claim has said so.
            if WARM_SHARE <= share < 1 - _CLEARLY:
                where = f"{row[0]} adapters (adapters), {row[1]}"
                yield f"{where}: {share:.2f} of plain vLLM's requests a second."


def _tables(reports: Mapping[str, Report], name: str) -> list[tuple[str, Table]]:
    return reports[name].tables("") if name in reports else []


def number(cell: str) -> float:
    """The first number of a cell. Raises ValueError where there is none."""
    found = _NUMBER.search(cell)
    if found is None:
        raise ValueError(f"no number in `{cell}`")
    return float(found[0].replace(",", ""))
