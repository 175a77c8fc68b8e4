"""Two runs side by side as one HTML page that needs nothing beside it."""

from dataclasses import dataclass

from loadtest.report import about
from loadtest.report.differences import headline, label
from loadtest.report.formats import NOTHING, number, seconds, share
from loadtest.report.plots.distributions import FIGURES, overlaid
from loadtest.report.plots.forest import forest
from loadtest.report.rendering import check_makers, drawn, render
from loadtest.report.result import Result
from loadtest.report.verdict import Line, doubts, problem
from loadtest.statistics.compare import Comparison, Difference


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


def warnings(a: Result, b: Result) -> list[Line]:
    """What makes the comparison doubtful: of each run, and between them."""
    told = [
        Line(line.tone, f"{side}: {line.text}")
        for side, run in (("A", a), ("B", b))
        for line in (*problem(run), *doubts(run))
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


def _value(figure: str, value: float) -> str:
    if figure.endswith("_per_s"):
        return number(value)
    return share(value) if figure == "errors" else seconds(value)


def _signed(figure: str, value: float) -> str:
    if figure == "errors":
        # In points, lest it be read as a change in proportion.
        return f"{_percent(value, 2).removesuffix('%')} points"
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
