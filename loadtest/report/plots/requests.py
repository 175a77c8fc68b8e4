"""A stretch of the run, request by request: waiting, answering, and how each ended."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from loadtest.report.plots.drawing import colour, draw, grid, strokes
from loadtest.report.plots.source import Source
from loadtest.statistics.rows import OUTCOMES, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 120
WORDS = {
    "ok": "answered",
    "http_error": "HTTP error",
    "timeout": "timeout",
    "connection": "connection failed",
    "bad_answer": "bad answer",
    "cancelled": "cancelled by the user",
}


@dataclass(frozen=True, slots=True)
class Window:
    """Some requests in order of their intended times. worst: whether they were chosen."""

    rows: Table
    worst: bool


def window(source: Source, most: int = SHOWN) -> Window:
    """All requests of a short run, else those in a row of which most failed, or waited longest."""
    table = source.table
    if len(table) <= most:
        return Window(table, worst=False)
    figure, _ = source.first_answer
    bad = np.nan_to_num(np.asarray(table[figure], np.float64))
    # A failed request weighs as two of the slowest answers.
    bad[source.failed] = max(2 * float(bad.max()), 1e-9)
    sums = np.cumsum(np.insert(bad, 0, 0.0))
    begin = int(np.argmax(sums[most:] - sums[:-most]))
    return Window(table[begin : begin + most], worst=True)


def request_timeline(source: Source) -> str:
    """A bar a request from its intended sending to its end; empty without requests."""
    shown = window(source).rows
    if not len(shown):
        return ""

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        for outcome in sorted(set(shown["outcome"].tolist())):
            _draw(axes, shown, outcome)
        intended, ended = shown["intended_s"], shown["ended_s"]
        low = float(intended.min())
        high = max(float(intended.max()), float(np.nanmax(ended, initial=low)))
        room = (high - low) * 0.01 or 0.01
        axes.set_xlim(low - room, high + room)
        axes.set_ylim(len(shown), -1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        _seconds(axes)
        grid(axes, "x")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0.1)

    label = "Timeline of requests: each from its intended sending to its end"
    return draw(paint, label, (8.6, 1.2 + 0.034 * max(len(shown), 12)))


def _draw(axes: "Axes", shown: Table, outcome: int) -> None:
    places = np.flatnonzero(shown["outcome"] == outcome)
    rows = shown[places]
    y = places.astype(np.float64)
    name = OUTCOMES[outcome]
    of = colour(name)
    intended = np.asarray(rows["intended_s"], np.float64)
    sent = np.where(np.isnan(rows["sent_s"]), intended, rows["sent_s"])
    first = intended + np.asarray(rows["ttft_s"], np.float64)
    ended = np.asarray(rows["ended_s"], np.float64)
    last = np.where(np.isnan(ended), np.where(np.isnan(first), sent, first), ended)
    first = np.minimum(np.where(np.isnan(first), last, first), last)
    strokes(axes, (intended, y), (sent, y), colour("soft"), width=0.8)
    streamed = first < last
    waits = "answered: to the first token" if name == "ok" else WORDS[name]
    strokes(
        axes, (sent, y), (first, y), of, width=1.6, opacity=0.35 if streamed.any() else 0.9,
        label=waits if streamed.any() or name != "ok" else WORDS[name],
    )  # fmt: skip
    strokes(
        axes, (first[streamed], y[streamed]), (last[streamed], y[streamed]), of, width=1.9,
        label="answered: tokens" if name == "ok" else None,
    )  # fmt: skip
    if name != "ok":
        strokes(axes, (last, y), (last, y), of, width=3.2, order=3)


def _seconds(axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:,.6g}"))
    axes.set_xlabel("seconds since the run's begin")
