"""A forest plot: how much each figure changed between two runs, and between which bounds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from loadtest.report.differences import label
from loadtest.report.plots.drawing import colour, draw, grid
from loadtest.statistics.compare import Difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WORDS = {"better": "better", "worse": "worse", "unclear": "not clear", "same": "the same"}
_COLOURS = {"better": "good", "worse": "bad", "unclear": "soft", "same": "soft"}
_MARKS = {"better": "o", "worse": "s", "unclear": "D", "same": "D"}
_LARGEST = 3.0
"""Changes beyond it (a figure is four times as large) lie at the plot's edge, with an arrow."""


def forest(differences: Sequence[Difference], level: float) -> str:
    """b against a in percent, a row a figure; empty where no change can be told."""
    shown = [one for one in differences if one.change is not None]
    if not shown:
        return ""

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        reach = _reach(shown)
        axes.axvline(0, color=colour("soft"), linewidth=1)
        for row, one in enumerate(shown):
            _draw_row(axes, row, one, reach)
        for direction in ("better", "worse", "unclear"):
            if any(one.direction == direction for one in shown):
                axes.plot([], [], color=colour(_COLOURS[direction]), marker=_MARKS[direction],
                          ms=5, linewidth=1.8, label=_WORDS[direction])  # fmt: skip
        axes.set_xlim(-min(reach, 1.05), reach)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_yticks(range(len(shown)), [label(one.figure) for one in shown])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        _percent(axes)
        axes.set_xlabel(f"B against A, with the interval of {100 * level:g}%")
        grid(axes, "x")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.1)

    words = "Relative changes of each figure from run A to run B, with intervals"
    return draw(paint, words, (8.6, 1.0 + 0.22 * len(shown)))


def _reach(shown: Sequence[Difference]) -> float:
    ends = [one.change_high if one.change_high is not None else one.change for one in shown]
    lows = [one.change_low if one.change_low is not None else one.change for one in shown]
    sizes = [abs(end) for end in (*ends, *lows) if end is not None and np.isfinite(end)]
    return min(max(max(sizes, default=0.0) * 1.1, 0.02), _LARGEST)


def _draw_row(axes: "Axes", row: int, one: Difference, reach: float) -> None:
    of = colour(_COLOURS[one.direction])
    change = one.change or 0.0
    if one.change_low is not None and one.change_high is not None:
        ends = np.clip([one.change_low, one.change_high], -reach, reach)
        axes.plot(ends, [row, row], color=of, linewidth=1.8, solid_capstyle="round")
    beyond = abs(change) > reach
    mark = (">" if change > 0 else "<") if beyond else _MARKS[one.direction]
    at = float(np.clip(change, -reach * 0.985, reach * 0.985))
    axes.plot([at], [row], color=of, marker=mark, ms=5, linestyle="none")


def _percent(axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{100 * at:+.6g}%" if at else "0%"))
