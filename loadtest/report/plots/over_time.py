"""The run over time: latencies of requests, and the load that was asked and answered."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from loadtest.report.plots.drawing import (
    Values,
    colour,
    dots,
    draw,
    grid,
    latency_axis,
    series,
    strokes,
    time_axis,
)
from loadtest.report.plots.source import Figure, Source
from loadtest.statistics.timeline import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

MOST_POINTS = 2500
_SLOWEST = 250
_FEW_POINTS = 800
_MOST_STEPS = 60
_IN_A_STEP = 20
_MOST_CELLS = 120
_LOG_FROM = 5
"""Where the slowest takes so many times as long as most do, the axis is logarithmic."""


def latency_over_time(source: Source) -> str:
    """TTFT and E2E of requests by when they should have been sent; empty without any."""
    figures: list[tuple[Figure, str]] = [("ttft_s", "TTFT"), ("e2e_s", "E2E")]
    shown = [one for one in figures if (~np.isnan(source.table[one[0]])).any()]
    if not shown:
        return ""

    def paint(canvas: "Canvas") -> None:
        all_axes = canvas.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for place, (axes, (figure, name)) in enumerate(zip(all_axes, shown, strict=True)):
            _draw_latency(axes, source, figure, series(0 if figure == "ttft_s" else 3))
            axes.set_ylabel(name)
            _shade(axes, source, named=place == 0)
            if place == 0 and axes.get_legend_handles_labels()[0]:
                axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.1)
            time_axis(axes, source.end_s)
            if place + 1 < len(shown):
                axes.set_xlabel("")

    label = "Latency of requests over the run: each request, median and 95th percentile"
    return draw(paint, label, (5.6, 2.1 + 1.9 * len(shown)))


def load_over_time(cells: Sequence[Cell], source: Source) -> str:
    """Arrivals, answers and failures a second, tokens, and requests in flight; empty without."""
    if not cells:
        return ""
    times, values = _coarse(cells)

    def paint(canvas: "Canvas") -> None:
        rates, tokens, flying = canvas.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
        for name, label, of in (
            ("arrivals_per_s", "should arrive", colour("soft")),
            ("ok_per_s", "answered", colour("ok")),
            ("failed_per_s", "failed", colour("http_error")),
        ):
            if name == "failed_per_s" and not values[name].any():
                continue
            dashed = name == "arrivals_per_s"
            rates.stairs(
                values[name], times, color=of, linewidth=1.2 if dashed else 1.5, label=label,
                linestyle=(0, (3, 1.5)) if dashed else "-", baseline=None,
            )  # fmt: skip
        rates.set_ylabel("requests/s")
        rates.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.1)
        tokens.stairs(values["output_tokens_per_s"], times, color=series(0), linewidth=1.4)
        tokens.set_ylabel("tokens/s")
        flying.stairs(values["in_flight"], times, color=series(3), linewidth=1.4)
        flying.set_ylabel("in flight")
        for axes in (rates, tokens, flying):
            axes.set_ylim(0, max(axes.get_ylim()[1], 1.0))
            _shade(axes, source, named=False)
            grid(axes)
            time_axis(axes, max(source.end_s, 1.0))
            if axes is not flying:
                axes.set_xlabel("")

    label = "Load over the run: arrivals, answers and failures a second, tokens, in flight"
    return draw(paint, label, (5.6, 4.9))


def thinned(values: Values, most: int = MOST_POINTS) -> NDArray[np.intp]:
    """Places of at most so many values: evenly taken, and the greatest always among them."""
    if len(values) <= most:
        return np.arange(len(values))
    top = min(_SLOWEST, most // 2)
    greatest = np.argpartition(values, len(values) - top)[-top:]
    evenly = np.linspace(0, len(values) - 1, most - top).astype(np.intp)
    return np.unique(np.concatenate([greatest, evenly]))


def steps(times: Values, values: Values) -> tuple[Values, Values, Values]:
    """The middle, the median and the 95th percentile of stretches of time with enough values."""
    many = min(_MOST_STEPS, len(values) // _IN_A_STEP)
    if many < 2:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    bounds = np.linspace(times.min(), np.nextafter(times.max(), np.inf), many + 1)
    places = np.clip(np.searchsorted(bounds, times, side="right") - 1, 0, many - 1)
    held = [values[places == place] for place in range(many)]
    full = [place for place in range(many) if len(held[place]) >= _IN_A_STEP // 4]
    middles = (bounds[:-1] + bounds[1:]) / 2
    told = np.array([np.percentile(held[place], [50, 95]) for place in full]).reshape(-1, 2)
    return middles[full], told[:, 0], told[:, 1]


def _draw_latency(axes: "Axes", source: Source, figure: Figure, of: str) -> None:
    table = source.table
    there = ~np.isnan(table[figure])
    times = np.asarray(table["intended_s"][there], np.float64)
    values = np.asarray(table[figure][there], np.float64)
    kept = thinned(values)
    few = len(kept) < _FEW_POINTS
    size = 5.0 if len(kept) < _FEW_POINTS / 10 else 3.0 if few else 2.4
    dots(axes, times[kept], values[kept], of, size=size, opacity=0.65 if few else 0.4)
    middles, p50, p95 = steps(times, values)
    if len(middles):
        ink = colour("ink")
        axes.plot(middles, p95, color=ink, linewidth=1.1, linestyle=(0, (3, 1.5)), label="p95")
        axes.plot(middles, p50, color=ink, linewidth=1.5, label="p50")
    low, high = float(values.min()), float(values.max())
    log = low > 0 and high > _LOG_FROM * float(np.median(values))
    latency_axis(axes.yaxis, low, high, log=log)
    grid(axes)
    _draw_failures(axes, source)


def _draw_failures(axes: "Axes", source: Source) -> None:
    """Ticks at the foot, where requests failed."""
    times = np.asarray(source.table["intended_s"][source.failed], np.float64)
    if not len(times):
        return
    times = times[thinned(times, 400)]
    low, high = axes.get_ylim()
    foot = (high / low) ** 0.045 * low if axes.get_yscale() == "log" else 0.045 * (high - low) + low
    strokes(
        axes, (times, np.full(len(times), low)), (times, np.full(len(times), foot)),
        colour("http_error"), width=1.1, opacity=0.9, label="failed", order=3,
    )  # fmt: skip


def _shade(axes: "Axes", source: Source, *, named: bool) -> None:
    """Where nothing was measured."""
    words = {"warmup": "warm-up", "cooldown": "cool-down"}
    for begin, end, phase in source.outside():
        axes.axvspan(begin, end, color=colour("shade"), linewidth=0, zorder=0)
        if named:
            at, side = (begin, "left") if phase == "warmup" else (end, "right")
            axes.annotate(
                words[phase], (at, 1), xycoords=("data", "axes fraction"), ha=side, va="top",
                xytext=(2 if side == "left" else -2, -2), textcoords="offset points",
                fontsize=7.5, color=colour("soft"), zorder=4,
                bbox={"facecolor": colour("shade"), "edgecolor": "none", "pad": 1},
            )  # fmt: skip


def _coarse(cells: Sequence[Cell]) -> tuple[Values, dict[str, Values]]:
    """Bounds of at most so many stretches, and the means of what was counted in each."""
    names = ("arrivals_per_s", "ok_per_s", "failed_per_s", "output_tokens_per_s", "in_flight")
    together = -(-len(cells) // _MOST_CELLS)
    begins = np.array([cell.begin_s for cell in cells])
    bounds = np.append(begins[::together], begins[-1] + cells[-1].seconds)
    starts = np.arange(0, len(cells), together)
    sizes = np.diff(np.append(starts, len(cells)))
    told = {name: np.array([float(getattr(cell, name)) for cell in cells]) for name in names}
    return bounds, {name: np.add.reduceat(one, starts) / sizes for name, one in told.items()}
