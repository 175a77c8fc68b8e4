"""A heat map: tenants, or models, by time, coloured by how slow they were."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from loadtest.report.formats import seconds
from loadtest.report.plots.drawing import (
    HEATS,
    Values,
    blocks,
    colour,
    draw,
    strokes,
    time_axis,
)
from loadtest.report.plots.source import Group, Source, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 20
"""Tenants with a row of their own; the rest share one."""
MANY_FAILED = 0.1
"""The share of a cell's requests from which it is crossed."""
_MOST_STEPS = 48
_LEAST_SPREAD = 3.0
_IN_A_CELL = 6
"""Requests that a cell should have on average."""


@dataclass(frozen=True, slots=True)
class Heat:
    """names: of the rows. bounds: of the columns, in seconds. values: (rows, columns), the 95th
    percentile, NaN without any. failed: (rows, columns), whether many requests failed."""

    names: list[str]
    bounds: Values
    values: Values
    failed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def heat(source: Source, group: Group) -> Heat | None:
    """None for fewer than two tenants (or models), or where nothing has a latency."""
    ranked = source.ranked(group)
    figure, _ = source.first_answer
    table = source.table
    if len(ranked) < 2 or np.isnan(table[figure]).all():
        return None
    names = [short(source.names(group)[one]) for one in ranked[:SHOWN]]
    rest = ranked[SHOWN:]
    row_of = np.full(len(source.names(group)), len(names))
    row_of[ranked[:SHOWN]] = np.arange(len(names))
    if rest:
        names.append(f"{len(rest)} others")
    many = int(np.clip(len(table) / len(names) / _IN_A_CELL, 6, _MOST_STEPS))
    last_s = float(table["intended_s"].max())
    bounds = np.linspace(0, last_s or 1.0, many + 1)
    rows = row_of[table[group]]
    columns = np.clip(np.searchsorted(bounds, table["intended_s"], side="right") - 1, 0, many - 1)
    values = np.full((len(names), many), np.nan)
    failed = np.zeros(values.shape, np.bool_)
    asked, lost = (
        np.bincount((rows * many + columns)[of], minlength=values.size)
        for of in (slice(None), source.failed)
    )
    failed.flat[:] = (lost > 0) & (lost >= MANY_FAILED * asked)
    there = ~np.isnan(table[figure])
    cells = (rows * many + columns)[there]
    order = np.argsort(cells, kind="stable")
    held, starts = np.unique(cells[order], return_index=True)
    parts = np.split(np.asarray(table[figure][there], np.float64)[order], starts[1:])
    values.flat[held] = [float(np.percentile(part, 95)) for part in parts]
    return Heat(names, bounds, values, failed)


def heat_map(source: Source, group: Group) -> str:
    """The heat map, or "" where there is none to draw."""
    found = heat(source, group)
    if found is None:
        return ""
    edges = levels(found.values[~np.isnan(found.values)])
    _, name = source.first_answer

    def paint(figure: "Figure") -> None:
        legend, axes = figure.subplots(2, 1, height_ratios=(1, 1.8 * len(found.names)))
        _draw_legend(legend, edges, f"p95 of {name}", failed=bool(found.failed.any()))
        _draw_cells(axes, found, edges)
        time_axis(axes, float(found.bounds[-1]))
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.tick_params(length=0)

    label = f"Heat map: 95th percentile of {name}, {group}s by time"
    return draw(paint, label, (8.6, 1.25 + 0.24 * len(found.names)))


def levels(values: Values) -> Values:
    """Bounds between colours, each about as far from the next in proportion; round, rising."""
    low, high = float(np.quantile(values, 0.02)), float(np.quantile(values, 0.98))
    low = max(low, 1e-6)
    # Small differences are not to look like large ones.
    edges = np.geomspace(low, max(high, low * _LEAST_SPREAD), HEATS + 1)[1:-1]
    return np.unique([float(f"{edge:.2g}") for edge in edges])


def _heats(edges: Values) -> list[str]:
    """A colour for each stretch between bounds, from the first to the last of the scale."""
    places = np.linspace(0, HEATS - 1, len(edges) + 1).round().astype(int)
    return [colour(f"heat-{place}") for place in places]


def _draw_cells(axes: "Axes", found: Heat, edges: Values) -> None:
    level = np.searchsorted(edges, found.values, side="left")
    for place, of in enumerate(_heats(edges)):
        held = np.argwhere((level == place) & ~np.isnan(found.values))
        blocks(
            axes,
            [
                (found.bounds[column], row + 0.04, found.bounds[column + 1] - found.bounds[column],
                 0.92)
                for row, column in held.tolist()
            ],
            of,
        )  # fmt: skip
    _draw_crosses(axes, found)
    axes.set_ylim(len(found.names), 0)
    axes.set_yticks(np.arange(len(found.names)) + 0.5, found.names)


def _draw_crosses(axes: "Axes", found: Heat) -> None:
    """Where requests failed."""
    rows, columns = np.nonzero(found.failed)
    middle = (found.bounds[columns] + found.bounds[columns + 1]) / 2
    reach = (found.bounds[1] - found.bounds[0]) * 0.22
    y, up = rows.astype(np.float64) + 0.5, 0.22
    _draw_cross(axes, middle, y, reach, up)


def _draw_cross(axes: "Axes", x: Values, y: Values, reach: float, up: float) -> None:
    """Crosses that are seen on any colour."""
    begins, ends = (np.concatenate([x, x]) + side * reach for side in (-1, 1))
    down = np.concatenate([y - up, y + up])
    for of, width in (("paper", 3.2), ("ink", 1.3)):
        strokes(
            axes, (begins, down), (ends, np.concatenate([y + up, y - up])), colour(of),
            width=width, order=3,
        )  # fmt: skip


def _draw_legend(axes: "Axes", edges: Values, words: str, *, failed: bool) -> None:
    """A strip of the colours with the bounds between them."""
    heats = _heats(edges)
    for place, of in enumerate(heats):
        blocks(axes, [(place, 0, 1, 1)], of)
    axes.set_xlim(-2.2, HEATS + 2.6)
    axes.set_ylim(0, 1)
    axes.text(-0.2, 0.5, words, ha="right", va="center", fontsize=8.5)
    if len(edges) > 1 or len(heats) > 1:
        axes.set_xticks(np.arange(1, len(heats)), [seconds(edge) for edge in edges])
    else:
        axes.set_xticks([])
    axes.tick_params(length=0, pad=1, labelsize=7.5)
    if failed:
        at = len(heats) + 0.4
        _draw_cross(axes, np.array([at]), np.array([0.5]), 0.09, 0.32)
        axes.text(at + 0.25, 0.5, f"{MANY_FAILED:.0%} failed", va="center", fontsize=8.5)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_yticks([])
