"""The data report as HTML: a page that needs nothing beside it, or a part of another page."""

from collections.abc import Sequence
from pathlib import Path

from training.data.report import DataReport

_FRAGMENT = "fragment.html.jinja"
_PAGE = "page.html.jinja"
_STYLE = Path(__file__).parents[1] / "report" / "page.css"
_CHART_WIDTH, _CHART_HEIGHT = 720, 120
_CLASSES = 40


def page(report: DataReport, title: str) -> str:
    """The whole page. title: what was looked at."""
    return _render(_PAGE, report, title=title, style=_STYLE.read_text(encoding="utf-8"))


def fragment(report: DataReport) -> str:
    """What goes into the page of a run, below a heading of the second level."""
    return _render(_FRAGMENT, report)


def _render(template: str, report: DataReport, **more: str) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        report=report,
        bars=_bars(report.lengths.histogram if report.lengths else ()),
        width=_CHART_WIDTH,
        height=_CHART_HEIGHT,
        classes=report.classes.counts[:_CLASSES],
        **more,
    )


def _bars(histogram: Sequence[tuple[int, int]]) -> list[dict[str, float]]:
    """Each bar's place in the chart, with what it stands for."""
    if not histogram:
        return []
    most = max(count for _, count in histogram)
    width = _CHART_WIDTH / len(histogram)
    return [
        {
            "x": round(i * width, 1),
            "y": round(_CHART_HEIGHT * (1 - count / most), 1),
            "width": round(width - 2, 1),
            "height": round(_CHART_HEIGHT * count / most, 1),
            "upto": upto,
            "count": count,
        }
        for i, (upto, count) in enumerate(histogram)
    ]
