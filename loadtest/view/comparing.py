"""Two runs side by side, as a table: `comparison`."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadtest.statistics.compare import Comparison, Difference, Direction
from loadtest.view.amounts import change, latency, rate, share

_STYLES: dict[Direction, str] = {
    "better": "green",
    "worse": "bold red",
    "unclear": "dim",
    "same": "dim",
}
_ABBREVIATED = {"requests_per_s": "requests/s", "output_tokens_per_s": "tokens/s"}


def comparison(comparison: Comparison) -> RenderableType:
    """b beside a: each figure, its change between bounds, and the word; fits 80 columns."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for name in ("a", "b", "change", f"b - a ({comparison.level:.0%})"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("b is", no_wrap=True)
    for one in comparison.differences:
        table.add_row(*_row(one))
    return Group(
        Text.assemble(("a  ", "bold"), comparison.a),
        Text.assemble(("b  ", "bold"), comparison.b),
        Text(_sentence(comparison.why)),
        Text(),
        table,
        Text("ITL is each request's mean gap here.", style="dim"),
        Text(),
        Text(_verdict(comparison)),
    )


def _row(one: Difference) -> list[str | Text]:
    return [
        _name(one.figure),
        _value(one.figure, one.a),
        _value(one.figure, one.b),
        change(one.change),
        _interval(one),
        Text(one.direction, style=_STYLES[one.direction]),
    ]


def _name(figure: str) -> str:
    """`ttft_p95` as `TTFT p95`."""
    name, _, of = figure.partition("_")
    if name in ("ttft", "itl", "tpot", "e2e"):
        return f"{name.upper()} {of}"
    return _ABBREVIATED.get(figure, figure)


def _value(figure: str, value: float) -> str:
    if figure == "errors":
        return share(value)
    return rate(value) if figure in _ABBREVIATED else latency(value)


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


def _verdict(comparison: Comparison) -> str:
    """`b is worse in TTFT p95, TTFT p99; better in none; 17 figures are unclear or the same.`"""
    by = {
        word: [_name(one.figure) for one in comparison.differences if one.direction == word]
        for word in _STYLES
    }
    rest = len(by["unclear"]) + len(by["same"])
    told = [f"{word} in {', '.join(by[word])}" for word in ("worse", "better") if by[word]]
    if not told:
        return "b differs from a in no figure beyond chance."
    return f"b is {'; '.join(told)}." + (f" {rest} unclear or the same." if rest else "")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
