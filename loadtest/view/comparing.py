"""Two runs side by side, as a table: `comparison`."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadtest.report.differences import headline, label
from loadtest.report.formats import number, seconds, share
from loadtest.statistics.compare import Comparison, Difference, Direction
from loadtest.view.amounts import change

_STYLES: dict[Direction, str] = {
    "better": "green",
    "worse": "bold red",
    "unclear": "dim",
    "same": "dim",
}


def comparison(comparison: Comparison) -> RenderableType:
    """B beside A: each figure, its change between bounds, and the word; fits 80 columns."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for name in ("A", "B", "change", f"B - A ({comparison.level:.0%})"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("B is", no_wrap=True)
    for one in comparison.differences:
        table.add_row(*_row(one))
    return Group(
        Text.assemble(("A  ", "bold"), comparison.a),
        Text.assemble(("B  ", "bold"), comparison.b),
        Text(_sentence(comparison.why)),
        Text(),
        table,
        Text("ITL is each request's mean gap here.", style="dim"),
        Text(),
        Text(f"{headline(comparison).text}."),
    )


def _row(one: Difference) -> list[str | Text]:
    return [
        label(one.figure),
        _value(one.figure, one.a),
        _value(one.figure, one.b),
        change(one.change),
        _interval(one),
        Text(one.direction, style=_STYLES[one.direction]),
    ]


def _value(figure: str, value: float) -> str:
    if figure == "errors":
        return share(value)
    return number(value) if figure.endswith("_per_s") else seconds(value)


def _interval(one: Difference) -> str:
    """Of b - a, by which the word is chosen."""
    if one.low is None or one.high is None:
        return "too few requests"
    if one.low == one.high:
        return _signed(one.figure, one.low)
    return f"{_signed(one.figure, one.low)} to {_signed(one.figure, one.high)}"


def _signed(figure: str, value: float) -> str:
    """A difference; of shares in points, lest it be read as one in proportion."""
    sign = "-" if value < 0 else "+" if value > 0 else ""
    text = _value(figure, abs(value))
    return sign + (f"{text[:-1]} points" if figure == "errors" else text)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
