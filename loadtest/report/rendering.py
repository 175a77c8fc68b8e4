"""How the pages are made: their templates and what those may call."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.report import formats
from loadtest.report.plots.source import short
from loadtest.statistics.units import StatisticsError

if TYPE_CHECKING:
    from markupsafe import Markup


_MAKERS = ("jinja2", "matplotlib")


def check_makers() -> None:
    """Raises StatisticsError where what makes the pages is not installed."""
    missing = [name for name in _MAKERS if find_spec(name) is None]
    if missing:
        raise StatisticsError(
            f"the page needs {' and '.join(missing)}: install with `pip install"
            " 'loraplex[loadtest]'`; result.json holds all that the page would show"
        )


def render(template: str, **values: Any) -> str:
    """The page; all that is put in it is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "seconds": formats.seconds,
        "span": formats.span,
        "number": formats.number,
        "share": formats.share,
        "count": formats.count,
        "money": formats.money,
        "short": short,
    }
    return environment.get_template(template).render(**values)


def drawn(svg: str) -> "Markup":
    """A plot for a page. Its texts were escaped when it was drawn."""
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704  # drawn by us, names escaped by matplotlib


def as_yaml(fields: dict[str, Any]) -> str:
    """In the order of the fields."""
    import yaml

    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=100)
