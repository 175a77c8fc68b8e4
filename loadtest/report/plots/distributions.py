"""Cumulative distributions: how large a share of requests was at most so slow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from loadtest.report.plots.drawing import (
    HALF,
    Values,
    colour,
    draw,
    grid,
    latency_axis,
    series,
)
from loadtest.report.plots.source import Source, short
from loadtest.report.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES: tuple[tuple[Literal["ttft_s", "itl_s", "tpot_s", "e2e_s"], str], ...] = (
    ("ttft_s", "TTFT"),
    ("itl_s", "ITL"),
    ("tpot_s", "TPOT"),
    ("e2e_s", "E2E"),
)
_MOST_POINTS = 400
_FEWEST = 5
_LEFT_OUT = 0.005
"""So small a share of the values may lie before the axis begins."""
SHOWN = 5
"""Tenants that have a colour of their own; the rest share one."""


@dataclass(frozen=True, slots=True)
class Curve:
    """values in order, and the share of all that is no greater."""

    name: str
    values: Values
    shares: Values
    colour: str
    dashed: bool = False


def distributions(result: Result, *, tall: bool = False) -> str:
    """CDFs of TTFT, ITL, TPOT and E2E; empty where none was measured. tall: as two others."""
    curves = [
        Curve(
            name,
            *_thin(*result.histograms.histogram(figure).cdf()),
            series(place),
            dashed=figure == "tpot_s",
        )
        for place, (figure, name) in enumerate(FIGURES)
        if getattr(result, figure).count
    ]
    label = "Cumulative distributions of TTFT, ITL, TPOT and E2E"
    return _drawn(curves, label, (5.6, 6.6) if tall else (5.6, 3.9)) if curves else ""


def overlaid(a: Result, b: Result, figure: Literal["ttft_s", "itl_s", "tpot_s", "e2e_s"]) -> str:
    """The same figure of two runs; empty where one has none."""
    if not (getattr(a, figure).count and getattr(b, figure).count):
        return ""
    curves = [
        Curve(
            f"{side}: {short(run.name)}", *_thin(*run.histograms.histogram(figure).cdf()),
            series(place), dashed=place == 0,
        )
        for place, (side, run) in enumerate((("A", a), ("B", b)))
    ]  # fmt: skip
    name = dict(FIGURES)[figure]
    return _drawn(curves, f"Cumulative distributions of {name} of both runs", HALF, name)


def by_group(source: Source, group: Literal["tenant", "model"]) -> str:
    """CDFs of TTFT (E2E where not streamed) of the busiest, from the rows; empty for fewer than
    two with enough requests."""
    figure, name = source.first_answer
    there = source.measured & ~np.isnan(source.table[figure])
    rows = source.table[there]
    ranked = source.ranked(group)
    names = source.names(group)
    sets = [(short(names[one]), rows[group] == one, series(i)) for i, one in
            enumerate(ranked[:SHOWN])]  # fmt: skip
    if rest := ranked[SHOWN:]:
        sets.append((f"{len(rest)} others", np.isin(rows[group], rest), colour("soft")))
    curves = []
    for who, mask, of in sets:
        values = np.sort(np.asarray(rows[figure][mask], np.float64))
        if len(values) >= _FEWEST:
            shares = np.arange(1, len(values) + 1) / len(values)
            curves.append(Curve(who, *_thin(values, shares), of))
    label = f"Cumulative distributions of {name} by {group}"
    return _drawn(curves, label, HALF, name) if len(curves) > 1 else ""


def _drawn(
    curves: Sequence[Curve], label: str, inches: tuple[float, float], x_label: str = "latency"
) -> str:
    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        for curve in curves:
            style = (0, (4, 1.5)) if curve.dashed else "-"
            axes.step(
                curve.values, curve.shares, where="post", color=curve.colour, label=curve.name,
                linewidth=1.7, linestyle=style, zorder=3 + curve.dashed,
            )  # fmt: skip
        # Gaps of events that came together are nearly 0; they'd take most of the axis.
        low = min(float(curve.values[curve.shares >= _LEFT_OUT].min()) for curve in curves)
        high = max(float(curve.values.max()) for curve in curves)
        low = max(low, high * 1e-5, 1e-6)
        latency_axis(axes.xaxis, min(low, high), high, log=high > 0)
        _shares(axes)
        axes.set_xlabel(x_label)
        columns = 4 if all(len(curve.name) < 8 for curve in curves) else 2
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.1)

    return draw(paint, label, inches)


def _shares(axes: "Axes") -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter

    axes.set_ylim(0, 1.01)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 0.9, 1]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{100 * at:g}%"))
    axes.axhline(0.95, color=colour("soft"), linewidth=0.8, linestyle=(0, (1, 2)))
    axes.annotate(
        "p95", (1, 0.95), xycoords="axes fraction", ha="right", va="top", fontsize=7.5,
        color=colour("soft"), xytext=(0, -1), textcoords="offset points",
    )  # fmt: skip
    axes.set_ylabel("share of values")
    grid(axes, "both")


def _thin(values: Values, shares: Values) -> tuple[Values, Values]:
    """At most so many points, finer towards the tail."""
    if len(values) <= _MOST_POINTS:
        return values, shares
    tail = 1 - np.geomspace(1, 1 / len(values) / 2, _MOST_POINTS // 4)
    wanted = np.union1d(np.linspace(0, 1, _MOST_POINTS), tail)
    places = np.unique(np.clip(np.searchsorted(shares, wanted), 0, len(shares) - 1))
    places = np.union1d(places, [0, len(values) - 1])
    return values[places], shares[places]
