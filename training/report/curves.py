"""The loss curves of a run as an SVG that takes the page's colours."""

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from training.report.run_report import TrainingSummary

if TYPE_CHECKING:  # a second to import: only a report pays for it
    from matplotlib.axes import Axes

_INCHES = (5.6, 3.6)
_SMOOTHED_FROM = 30
"""Steps; a shorter curve is shown as it is."""
# Stand-ins that become the page's own colours, so that one drawing fits light and dark.
_TEXT, _LINE, _TRAIN, _VALIDATION, _ALARM, _RATE = (f"#0{i}0{i}0{i}" for i in range(1, 7))
_PAGE_COLOURS = {
    _TEXT: "var(--soft)",
    _LINE: "var(--line)",
    _TRAIN: "var(--base)",
    _VALIDATION: "var(--candidate)",
    _ALARM: "var(--fail)",
    _RATE: "var(--soft)",
}


def loss_curves(training: TrainingSummary) -> str:
    """Loss of training and validation and the learning rate over the steps; empty without steps.

    The step whose weights were kept is marked, and so is where the overfit alarm was raised.
    """
    if not training.curve:
        return ""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "loraplex",
        "font.size": 9,
        "text.color": _TEXT,
        "axes.edgecolor": _LINE,
        "axes.labelcolor": _TEXT,
        "xtick.color": _TEXT,
        "ytick.color": _TEXT,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=_INCHES, layout="constrained")
        loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _draw_losses(loss, training)
        _draw_rate(rate, training)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(drawn.getvalue())


def _draw_losses(axes: "Axes", training: TrainingSummary) -> None:
    steps = [point.step for point in training.curve]
    values = [point.loss for point in training.curve]
    smooth = len(values) >= _SMOOTHED_FROM
    if smooth:
        axes.plot(steps, values, color=_TRAIN, linewidth=0.7, alpha=0.35)
    shown = _running_mean(values) if smooth else values
    axes.plot(steps, shown, color=_TRAIN, linewidth=1.5, label="training")
    looks = [(p.step, p.validation_loss) for p in training.curve if p.validation_loss is not None]
    if looks:
        x, y = [step for step, _ in looks], [value for _, value in looks]
        axes.plot(x, y, color=_VALIDATION, linewidth=1.8, marker="o", ms=3.5, label="validation")
        _mark_best(axes, training, looks)
    if training.overfit is not None:
        first, last = training.best_step, steps[-1]
        axes.axvspan(first, last, color=_ALARM, alpha=0.12, linewidth=0, label="overfit alarm")
    axes.set_ylabel(f"loss, {training.loss_unit}")
    axes.grid(visible=True, axis="y", color=_LINE, linewidth=0.6)
    axes.legend(frameon=False, loc="best")


def _mark_best(axes: "Axes", training: TrainingSummary, looks: Sequence[tuple[int, float]]) -> None:
    axes.axvline(training.best_step, color=_VALIDATION, linewidth=0.9, linestyle="--")
    height = dict(looks).get(training.best_step)
    if height is not None:
        axes.plot(
            [training.best_step],
            [height],
            color=_VALIDATION,
            marker="D",
            ms=6,
            linestyle="none",
            label=f"kept: step {training.best_step}",
        )


def _draw_rate(axes: "Axes", training: TrainingSummary) -> None:
    from matplotlib.ticker import MaxNLocator

    steps = [point.step for point in training.curve]
    axes.plot(steps, [p.learning_rate for p in training.curve], color=_RATE, linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=False)
    axes.set_ylabel("learning rate")
    axes.set_xlabel("step")


def _running_mean(values: Sequence[float]) -> list[float]:
    """Of each value and those before it, over a twentieth of the curve."""
    window = max(3, len(values) // 20)
    means = []
    for i in range(len(values)):
        recent = values[max(0, i - window + 1) : i + 1]
        means.append(sum(recent) / len(recent))
    return means


def _for_page(svg: str) -> str:
    """Only the drawing: scaled to the page's width, with its colours and its font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", svg)
    for stand_in, colour in _PAGE_COLOURS.items():
        svg = svg.replace(stand_in, colour)
    label = "Loss of training and validation, and learning rate, over the steps"
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
