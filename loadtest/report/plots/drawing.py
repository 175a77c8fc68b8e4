"""How plots are drawn: in colours of the page, small, and readable on a phone.

matplotlib is given stand-ins for colours; in the SVG they become the page's CSS variables, so that
one drawing fits light and dark.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from loadtest.report.formats import digits, seconds

if TYPE_CHECKING:  # a second to import: only a report pays for it
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Values = NDArray[np.float64]

HALF = (5.6, 3.3)
"""Inches of a plot of half the page's width. What is 9 points here is 9 pixels on a phone."""
SERIES = 6
"""Colours that can be told apart, by people who are colour-blind too."""
HEATS = 8

_VARIABLES = [
    "soft", "line", "ink", "paper", "shade", "ok", "http_error", "timeout", "connection",
    "bad_answer", "cancelled", "target", "good", "bad",
    *(f"series-{place}" for place in range(SERIES)),
    *(f"heat-{place}" for place in range(HEATS)),
]  # fmt: skip
_STAND_INS = {name: f"#0101{place:02x}" for place, name in enumerate(_VARIABLES, 16)}
_LONG_S = 600


def colour(name: str) -> str:
    """The stand-in for one of the page's colours."""
    return _STAND_INS[name]


def series(place: int) -> str:
    return colour(f"series-{place % SERIES}")


def draw(
    paint: Callable[["Figure"], object], label: str, inches: tuple[float, float] = HALF
) -> str:
    """The SVG of what `paint` draws. label: what it shows, for those who cannot see it."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    soft, line = colour("soft"), colour("line")
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": label,
        "font.size": 9,
        "axes.labelsize": 9,
        "legend.fontsize": 8.5,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "text.parse_math": False,
        "text.color": colour("ink"),
        "axes.edgecolor": line,
        "axes.labelcolor": soft,
        "axes.facecolor": "none",
        "xtick.color": line,
        "ytick.color": line,
        "xtick.labelcolor": soft,
        "ytick.labelcolor": soft,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "legend.handlelength": 1.4,
        "axes.axisbelow": True,
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        # Names may be in any script; the browser has the letters that matplotlib's font lacks.
        warnings.filterwarnings("ignore", "Glyph")
        figure = Figure(figsize=inches, layout="constrained", facecolor="none")
        paint(figure)
        drawn = io.StringIO()
        # Not savefig, which lays all out and draws it twice.
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(drawn, metadata={"Date": None})
    return _for_page(drawn.getvalue(), label)


def strokes(
    axes: "Axes",
    begins: tuple[Values, Values],
    ends: tuple[Values, Values],
    of: str,
    *,
    width: float = 1.0,
    opacity: float = 1.0,
    label: str | None = None,
    order: float = 2,
) -> None:
    """Straight strokes as one path: thousands cost a few dozen bytes each. (x, y) of both ends."""
    if not len(begins[0]):
        return
    from matplotlib.lines import Line2D
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    points = np.empty((2 * len(begins[0]), 2))
    points[0::2] = np.column_stack(begins)
    points[1::2] = np.column_stack(ends)
    codes = np.full(len(points), Path.LINETO, np.uint8)
    codes[0::2] = Path.MOVETO
    path = Path(points, codes)
    path.should_simplify = False
    patch = PathPatch(
        path, fill=False, edgecolor=of, linewidth=width, alpha=opacity, capstyle="round",
        zorder=order,
    )  # fmt: skip
    axes.add_patch(patch)
    if label is not None:
        shown = Line2D([], [], color=of, linewidth=max(width, 2), alpha=max(opacity, 0.7))
        shown.set_label(label)
        axes.add_line(shown)


def dots(
    axes: "Axes", x: Values, y: Values, of: str, *, size: float = 2.0, opacity: float = 0.5
) -> None:
    """Points as one path of strokes without length and with round ends."""
    strokes(axes, (x, y), (x, y), of, width=size, opacity=opacity)


def blocks(axes: "Axes", places: Sequence[tuple[float, float, float, float]], of: str) -> None:
    """Rectangles (x, y, width, height) as one path."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not places:
        return
    points: list[tuple[float, float]] = []
    for x, y, width, height in places:
        right, top = x + width, y + height
        points += [(x, y), (right, y), (right, top), (x, top), (x, y)]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(places)
    axes.add_patch(PathPatch(Path(points, codes), facecolor=of, edgecolor="none", linewidth=0))


def grid(axes: "Axes", which: Literal["both", "x", "y"] = "y") -> None:
    axes.grid(visible=True, axis=which, color=colour("line"), linewidth=0.6)


def time_axis(axes: "Axes", end_s: float) -> None:
    """The run's time along x, from its begin."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    minutes = end_s >= _LONG_S
    size = 60.0 if minutes else 1.0
    end_s = max(end_s, 1e-3)
    axes.set_xlim(0, end_s)
    axes.xaxis.set_major_locator(MultipleLocator(step(end_s / size) * size))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: digits(at / size)))
    axes.set_xlabel(f"{'minutes' if minutes else 'seconds'} since the run's begin")


def latency_axis(axis: "Axis", low_s: float, high_s: float, *, log: bool) -> None:
    """Latencies from `low_s` to `high_s` with their units."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    log = log and low_s > 0
    low_s, high_s = (low_s / 1.1, high_s * 1.1) if log else (0.0, high_s * 1.05)
    side = axis.axes
    limit = side.set_xlim if axis is side.xaxis else side.set_ylim
    scale = side.set_xscale if axis is side.xaxis else side.set_yscale
    if log:
        scale("log")
        axis.set_major_locator(FixedLocator(log_ticks(low_s, high_s)))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    limit(low_s, high_s if high_s > low_s else low_s + 1e-3)
    axis.set_major_formatter(FuncFormatter(lambda at, _: seconds(at)))


def step(end: float, most: int = 8) -> float:
    """A round step that leads from 0 to `end` in at most so many."""
    rough = end / most
    size = 10.0 ** np.floor(np.log10(rough))
    return float(size * next(one for one in (1, 2, 5, 10) if one * size >= rough * (1 - 1e-9)))


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round values from low to high, evenly spread as far as they can be, at most so many."""
    sets = ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks: list[float] = []
    for steps in sets:
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            break
    return ticks[:: max(1, -(-len(ticks) // most))] or [low]


def _for_page(svg: str, label: str) -> str:
    """Only the drawing: as wide as the page lets it be, with the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', svg)
    svg = svg[svg.index(">") + 1 :]
    svg = re.sub(r'<g id="[^"]*"', "<g", svg).replace("xlink:href", "href")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", svg)
    svg = re.sub(r' d="([^"]*)"', lambda found: f' d="{_short(found[1])}"', svg)
    for name, stand_in in _STAND_INS.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    # Two plots of one page must not share ids.
    mark = hashlib.sha256(label.encode()).hexdigest()[:6]
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{mark}", svg)
    head = f'<svg class="plot" {box[0] if box else ""} role="img" aria-label="{_escaped(label)}">'
    return head + re.sub(r">\s+<", "><", svg)


def _short(path: str) -> str:
    """A path's data with two digits after the point."""
    path = re.sub(r"\d+\.\d{3,}", _two_digits, path)
    return re.sub(r"\s*([MLzC])\s*", r"\1", path)


def _two_digits(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
