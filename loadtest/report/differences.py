"""How a comparison of two runs is told: the names of its figures, and what it came to."""

from collections.abc import Sequence

from loadtest.report.verdict import Line
from loadtest.statistics.compare import Comparison

_MANY = 4


def headline(comparison: Comparison) -> Line:
    """Whether b is better or worse, by the figures that say so for sure."""
    better, worse = _named(comparison, "better"), _named(comparison, "worse")
    # A family that is better here and worse there is told by its figures.
    both = {_family(name) for name in better} & {_family(name) for name in worse}
    better, worse = (
        list(dict.fromkeys(name if _family(name) in both else _family(name) for name in names))
        for names in (better, worse)
    )
    if worse and better:
        return Line("warn", f"B is worse in {_listed(worse)}, better in {_listed(better)}")
    if worse:
        return Line("bad", f"B is worse in {_listed(worse)}")
    if better:
        return Line("good", f"B is better in {_listed(better)}")
    return Line("note", "No difference is clear")


def label(figure: str) -> str:
    """A figure's name for people: `ttft_p95` as `TTFT p95`."""
    name, _, of = figure.partition("_")
    if name in ("ttft", "itl", "tpot", "e2e"):
        return f"{name.upper()} {of}"
    known = {
        "errors": "failed requests",
        "requests_per_s": "requests/s",
        "output_tokens_per_s": "output tokens/s",
    }
    return known.get(figure, figure)


def _named(comparison: Comparison, direction: str) -> list[str]:
    return [label(one.figure) for one in comparison.differences if one.direction == direction]


def _family(name: str) -> str:
    """`TTFT` of `TTFT p95`."""
    first, _, of = name.partition(" ")
    return first if of in ("mean", "p50", "p95", "p99") else name


def _listed(figures: Sequence[str]) -> str:
    if len(figures) > _MANY:
        return f"{len(figures)} figures"
    return " and ".join([", ".join(figures[:-1]), figures[-1]] if figures[1:] else figures)
