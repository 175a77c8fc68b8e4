"""Two runs side by side as one HTML page that needs nothing beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.report import about
from loadtest.report.formats import NOTHING, number, seconds, share
from loadtest.report.plots.distributions import FIGURES, overlaid
from loadtest.report.plots.forest import forest, label
from loadtest.report.rendering import check_makers, drawn, render
from loadtest.report.result import Result
from loadtest.report.verdict import Line, Tone, lines
from loadtest.statistics.compare import Comparison, Difference

_TONES: tuple[Tone, ...] = ("bad", "warn")
_MANY = 4


@dataclass(frozen=True, slots=True)
class Row:
    """A difference in words."""

    figure: str
    a: str
    b: str
    difference: str
    change: str
    direction: str
    requests: str


def comparison_page(comparison: Comparison, a: Result, b: Result) -> str:
    """The page. a, b: the results that were compared. Raises StatisticsError where jinja2 or
    matplotlib is not installed."""
    check_makers()
    said = headline(comparison)
    plots = [(name, drawn(overlaid(a, b, figure))) for figure, name in FIGURES]
    return render(
        "comparison.html.jinja",
        title=f"{said.text}: {b.name} against {a.name}",
        comparison=comparison,
        headline=said,
        rows=[row(one) for one in comparison.differences],
        forest=drawn(forest(comparison.differences, comparison.level)),
        plots=[one for one in plots if one[1]],
        warnings=warnings(a, b),
        runs=[(side, run, about.facts(run)) for side, run in (("A", a), ("B", b))],
        figures=len(comparison.differences),
    )


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


def warnings(a: Result, b: Result) -> list[Line]:
    """What makes the comparison doubtful: of each run, and between them."""
    told = [
        Line(line.tone, f"{side}: {line.text}")
        for side, run in (("A", a), ("B", b))
        for line in lines(run)
        if line.tone in _TONES and not line.text.startswith("Fails, as asked")
    ]
    if a.machine != b.machine:
        told.append(Line("warn", "The runs came from different testers or versions (see below)."))
    if a.url != b.url:
        told.append(Line("note", "The runs had different targets."))
    return told


def row(one: Difference) -> Row:
    """The figures with their units; an interval in brackets."""
    return Row(
        figure=label(one.figure),
        a=_value(one.figure, one.a),
        b=_value(one.figure, one.b),
        difference=_signed(one.figure, one.b - one.a) + _interval(one.figure, one.low, one.high),
        change=_change(one),
        direction=one.direction,
        requests=f"{one.requests[0]:,}"
        if one.requests[0] == one.requests[1]
        else f"{one.requests[0]:,}, {one.requests[1]:,}",
    )


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


def _value(figure: str, value: float) -> str:
    if figure.endswith("_per_s"):
        return number(value)
    return share(value) if figure == "errors" else seconds(value)


def _signed(figure: str, value: float) -> str:
    if figure == "errors":
        return _percent(value, 2)
    shown = _value(figure, abs(value))
    return shown if not value else f"{'+' if value > 0 else '-'}{shown}"


def _percent(value: float, places: int = 1) -> str:
    """With its sign; none where nothing is left of it."""
    shown = f"{100 * value:+.{places}f}%"
    return shown[1:] if not float(shown[:-1]) else shown


def _interval(figure: str, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return f" [{_signed(figure, low)}, {_signed(figure, high)}]"


def _change(one: Difference) -> str:
    if one.change is None:
        return NOTHING
    shown = _percent(one.change)
    if one.change_low is None or one.change_high is None:
        return shown
    return f"{shown} [{_percent(one.change_low)}, {_percent(one.change_high)}]"
