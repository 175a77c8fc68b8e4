"""What a server did at which rate: answers a second, and the share of good requests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from loadtest.report.formats import digits
from loadtest.report.plots.drawing import (
    Values,
    colour,
    dots,
    draw,
    grid,
    latency_axis,
    log_ticks,
    series,
)
from loadtest.report.plots.source import Source
from loadtest.report.result import KneeSearch, Result
from loadtest.statistics.timeline import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOG_FROM = 20
_LATENCY_LOG_FROM = 6


def throughput_against_rate(result: Result) -> str:
    """Answers a second by arrivals a second: of the probes of a search, else of a run whose rate
    changes; empty for one steady rate, of which there is only one point."""
    if result.knee is not None and len(result.knee.levels) > 1:
        return _of_levels(result.knee)
    if closed(result.workload):
        return _of_users(result)
    if varies(result.workload):
        return _of_cells(result.timeline, result.workload)
    return ""


def latency_against_rate(source: Source) -> str:
    """Median and 95th percentile of each steady stage by its planned rate, or its users; warm-up
    and cool-down left out; empty for fewer than two stages with answers."""
    figure, name = source.first_answer
    table = source.table[source.measured]
    told = []
    for begin, end, planned in _stages(source.result.workload):
        inside = table[(table["intended_s"] >= begin) & (table["intended_s"] < end)]
        values = np.asarray(inside[figure], np.float64)
        values = values[~np.isnan(values)]
        if len(values):
            told.append([planned, *np.percentile(values, [50, 95])])
    if len(told) < 2:
        return ""
    points = np.array(sorted(told))

    def paint(canvas: "Figure") -> None:
        axes = canvas.subplots()
        for column, label, dash in ((2, "p95", (0, (3, 1.5))), (1, "p50", "-")):
            axes.plot(
                points[:, 0], points[:, column], color=series(0), linewidth=1.5, marker="o",
                ms=4.5, linestyle=dash, label=label,
            )  # fmt: skip
        low, high = float(points[:, 1].min()), float(points[:, 2].max())
        latency_axis(axes.yaxis, low, high, log=high > _LATENCY_LOG_FROM * low)
        axes.set_xlim(left=0)
        axes.set_xlabel(_planned_words(source.result.workload))
        axes.set_ylabel(name)
        grid(axes, "both")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)

    return draw(paint, f"{name} against the rate of arrivals, by stage")


def knee_curve(search: KneeSearch) -> str:
    """The share of good requests by rate, with the target and the knee; empty without probes."""
    if not search.levels:
        return ""
    rates = np.array([level.rate for level in search.levels])
    shares = np.array([level.share for level in search.levels])
    smooth = np.array([level.smoothed for level in search.levels])

    def paint(figure: "Figure") -> None:
        from matplotlib.ticker import FuncFormatter

        axes = figure.subplots()
        axes.plot(rates, smooth, color=series(0), linewidth=1.5)
        _rings(axes, rates, shares, [level.agreed for level in search.levels])
        axes.axhline(
            search.target, color=colour("target"), linewidth=1.2, linestyle=(0, (4, 2)),
            label=f"target {100 * search.target:g}%",
        )  # fmt: skip
        _mark_knee(axes, search)
        axes.set_ylim(-0.03, 1.04)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{100 * at:g}%"))
        axes.set_ylabel("good requests")
        _rate_axis(axes, rates)
        grid(axes, "both")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.1)

    return draw(paint, "Share of good requests against the rate, with the target and the knee")


def varies(workload: Mapping[str, Any]) -> bool:
    """Whether the load is meant to change in the run: stages, ramps, a trace, sessions."""
    arrivals = workload.get("arrivals")
    if not isinstance(arrivals, Mapping):
        return False
    stages = arrivals.get("stages") or []
    ramps = any(stage.get("to") is not None for stage in stages)
    return arrivals.get("kind") == "trace" or len(stages) > 1 or ramps


def closed(workload: Mapping[str, Any]) -> bool:
    """Whether answers decide when the next requests come."""
    return bool((workload.get("arrivals") or {}).get("kind") == "closed")


def _of_users(result: Result) -> str:
    """In a closed loop arrivals follow the answers; what is chosen is the number of users."""
    means = stage_means(result.timeline, result.workload)
    if len(means) < 2:
        return ""

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.plot(means[:, 0], means[:, 2], color=series(0), linewidth=1.5, marker="o", ms=5)
        axes.set_xlim(0, float(means[:, 0].max()) * 1.05)
        axes.set_xlabel("users")
        axes.set_ylim(0, float(means[:, 2].max()) * 1.1 or 1)
        axes.set_ylabel("answers/s, mean of a stage")
        grid(axes, "both")

    return draw(paint, "Answers a second against the number of users, by stage")


def _of_levels(search: KneeSearch) -> str:
    rates = np.array([level.rate for level in search.levels])
    served = np.array([level.served_per_s for level in search.levels])

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        _diagonal(axes, rates)
        axes.plot(rates, served, color=series(0), linewidth=1.5, label="answered")
        axes.plot(rates, served, color=series(0), marker="o", ms=4.5, linestyle="none")
        _mark_knee(axes, search)
        _rate_axis(axes, rates)
        _finish(axes, max(float(served.max()), float(rates.max())))

    return draw(paint, "Answers a second against the rate of requests, by probes")


def _of_cells(cells: Sequence[Cell], workload: Mapping[str, Any]) -> str:
    last = max((i for i, cell in enumerate(cells) if cell.arrivals_per_s), default=-1)
    shown = [cell for cell in cells[: last + 1] if cell.arrivals_per_s]
    if len(shown) < 2:
        return ""
    asked = np.array([cell.arrivals_per_s for cell in shown])
    served = np.array([cell.ok_per_s for cell in shown])

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        most = max(float(asked.max()), float(served.max()))
        _diagonal(axes, np.array([0.0, most]))
        size = 3.0 if len(shown) < 200 else 2.0
        dots(axes, asked, served, series(0), size=size, opacity=0.4)
        means = stage_means(cells, workload)
        if len(means):
            axes.plot(
                means[:, 1], means[:, 2], color=series(0), linewidth=1.4, marker="o", ms=5,
                label="mean of a stage",
            )  # fmt: skip
        axes.set_xlim(0, most * 1.05)
        axes.set_xlabel("arrivals/s, each stretch of the timeline a dot")
        _finish(axes, most)

    return draw(paint, "Answers a second against arrivals a second, over the run")


def stage_means(cells: Sequence[Cell], workload: Mapping[str, Any]) -> Values:
    """(planned rate or users, arrivals/s, answers/s) of each steady stage of a known length, by
    the first; (0, 3) without any.

    Cells that a stage does not fill are left out.
    """
    found = []
    for begin, end, planned in _stages(workload):
        inside = [c for c in cells if c.begin_s >= begin and c.begin_s + c.seconds <= end + 1e-9]
        if inside:
            found.append([planned, np.mean([c.arrivals_per_s for c in inside]),
                          np.mean([c.ok_per_s for c in inside])])  # fmt: skip
    # A path from stage to stage reads only in the order of rates.
    return np.array(sorted(found)).reshape(-1, 3)


def _stages(workload: Mapping[str, Any]) -> Iterator[tuple[float, float, float]]:
    """When each steady stage of a known length begins and ends, and its rate or its users."""
    begin = 0.0
    for stage in workload["arrivals"].get("stages") or []:
        seconds = stage.get("seconds")
        if seconds is None:
            return
        planned = stage.get("rate", stage.get("users"))
        if stage.get("to") is None and planned is not None:
            yield begin, begin + seconds, float(planned)
        begin += seconds


def _planned_words(workload: Mapping[str, Any]) -> str:
    return "users" if closed(workload) else "planned arrivals/s"


def _diagonal(axes: "Axes", rates: Values) -> None:
    ends = [float(rates.min()), float(rates.max())]
    axes.plot(
        ends, ends, color=colour("soft"), linewidth=1, linestyle=(0, (3, 1.5)),
        label="all are answered",
    )  # fmt: skip


def _mark_knee(axes: "Axes", search: KneeSearch) -> None:
    rate = search.knee.rate
    if rate is None:
        return
    words = f"knee {digits(rate)}/s" if search.knee.found else f"held {digits(rate)}/s"
    axes.axvline(rate, color=colour("http_error"), linewidth=1.2, label=words)


def _rings(axes: "Axes", rates: Values, shares: Values, agreed: Sequence[bool]) -> None:
    """Probed rates; hollow where probes of one rate did not agree."""
    sure = np.array(agreed)
    plain: Any = {"linestyle": "none", "marker": "o", "ms": 5.0, "color": series(0)}
    axes.plot(rates[sure], shares[sure], label="probed", **plain)
    if not sure.all():
        hollow = plain | {"markerfacecolor": colour("paper")}
        axes.plot(rates[~sure], shares[~sure], label="not agreed", **hollow)


def _rate_axis(axes: "Axes", rates: Values) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = float(rates.min()), float(rates.max())
    if high > _LOG_FROM * low > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
        axes.xaxis.set_minor_locator(NullLocator())
    elif low == high:
        axes.set_xlim(0, high * 2 or 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: digits(at)))
    axes.set_xlabel("requests/s that should arrive")


def _finish(axes: "Axes", most: float) -> None:
    axes.set_ylim(0, most * 1.05 or 1)
    axes.set_ylabel("answers/s")
    grid(axes, "both")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.1)
