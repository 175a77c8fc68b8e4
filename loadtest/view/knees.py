"""The search for the knee: a line a probe while it goes, and the curve at its end.

What it came to stands in the verdict (loadtest.report.verdict).
"""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from loadtest.knee import Level, Probe
from loadtest.report.formats import number, share
from loadtest.report.result import KneeSearch
from loadtest.view.bars import bar

_BAR = 30


def probe_line(probe: Probe, target: float) -> Text:
    """One probe. target: the share of good requests at which a rate holds."""
    word, style = _outcome(probe, target)
    good = probe.good / probe.requests if probe.requests else None
    return Text.assemble(
        (f"{probe.rate:>7g}", "bold"), (" requests/s  ", "dim"),
        f"{share(good):>6}", (" good  ", "dim"),
        f"{number(probe.served_per_s):>7}", (" answers/s  ", "dim"),
        (word, style),
    )  # fmt: skip


def knee(search: KneeSearch) -> RenderableType:
    """The curve of all probes, empty where there was none; fits 80 columns."""
    return Group(*([Text(), *_curve(search)] if search.levels else []))


def _outcome(probe: Probe, target: float) -> tuple[str, str]:
    if probe.tester_bound:
        return "no verdict: tester-bound", "yellow"
    if not probe.requests:
        return "no verdict: nothing was measured", "yellow"
    if probe.good / probe.requests < target:
        return f"failed: fewer than {_aim(target)}", "red"
    return ("held", "green") if probe.sustained else ("failed: work piled up", "red")


def _curve(search: KneeSearch) -> Iterator[Text]:
    """Share of good requests by rate, with a mark at the target."""
    mark = min(round(search.target * _BAR), _BAR - 1)
    yield Text(f"{'requests/s':>10}  {'good requests':{_BAR + 7}}{'answers/s':>11}", style="bold")
    for level in search.levels:
        yield _row(level, search.target, mark)
    yield Text(f"{'':12}{'':{mark}}↑ {_aim(search.target)}", style="dim")
    if any(level.share == 0 for level in search.levels):
        yield Text("0%: work piled up, the probe was given up, or no answer was good.", style="dim")


def _row(level: Level, target: float, mark: int) -> Text:
    style = "green" if level.smoothed >= target else "red"
    filled = bar(level.share, _BAR)
    tip = filled[mark] if filled[mark] != " " else "│"
    doubt = "" if level.agreed else f"  {level.probes} probes disagree"
    return Text.assemble(
        (f"{level.rate:>10g}", "bold"), "  ",
        (filled[:mark], style), (tip, style if tip != "│" else "dim"), (filled[mark + 1 :], style),
        f"{share(level.share):>7}{number(level.served_per_s):>11}", (doubt, "dim"),
    )  # fmt: skip


def _aim(target: float) -> str:
    """As it was given: `95%`."""
    return f"{100 * target:g}%"
