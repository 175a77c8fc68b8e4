"""How a run looks while it goes: a picture for a terminal, and one line for anything else."""

from collections.abc import Callable, Iterator

from rich.console import Group
from rich.text import Text

from loadtest.report.formats import NOTHING, number, seconds, share
from loadtest.running.tester import CPU_SHARE, LATE_S
from loadtest.statistics.histogram import Spread
from loadtest.view.amounts import count, duration
from loadtest.view.bars import sparkline
from loadtest.view.recent import LATELY_S, Now, Stage

_LABEL, _NUMBER, _GAP = 10, 8, 2
"""Columns of the table of latencies: 60 characters in all."""
_STYLES: dict[Stage, str] = {
    "warm-up": "yellow",
    "measured": "green",
    "cool-down": "yellow",
    "waiting": "cyan",
    "ending": "bold yellow",
}
_PERCENTS = ("p50", "p95", "p99")


def picture(now: Now, title: str, width: int) -> Group:
    """The run in about a dozen lines, none longer than `width`."""
    lines = list(_lines(now, title, width))
    for line in lines:
        line.no_wrap, line.overflow = True, "crop"
    return Group(*lines)


def line(now: Now) -> str:
    """The run in one line."""
    parts = [
        f"{duration(now.at_s)} {_stage(now)}",
        f"sent {count(now.sent)}, answered {count(now.answered)}, failed {count(now.failed)},"
        f" in flight {count(now.in_flight)}",
        f"{number(now.answered_per_s)} answers/s, {number(now.output_tokens_per_s)} tokens/s",
        f"TTFT p95 {seconds(now.ttft_lately.p95)}",
    ]
    if now.good_share is not None:
        parts.append(f"SLO {share(now.good_share)}")
    return "; ".join(parts)


def _lines(now: Now, title: str, width: int) -> Iterator[Text]:
    yield _headline(now, title, width)
    yield _bar(now, width)
    yield _counts(now)
    yield _rates(now)
    yield from _latencies(now)
    yield from _history(now, width)
    if now.good_share is not None:
        yield _labelled("SLO kept", share(now.good_share), _better_near_1(now.good_share))
    if now.errors:
        told = ", ".join(f"{kind} {count(times)}" for kind, times in now.errors)
        yield _labelled("errors", told, "red")
    yield _tester(now)


def _headline(now: Now, title: str, width: int) -> Text:
    stage = _stage(now)
    room = max(width - len(stage) - 2, 0)
    shown = title if len(title) <= room else title[: max(room - 1, 0)] + "…"
    return Text.assemble((shown.ljust(room), "bold"), "  ", (stage, _STYLES[now.stage]))


def _stage(now: Now) -> str:
    if now.stage == "ending":
        return f"ending, {count(now.in_flight)} under way (Ctrl-C cancels them)"
    if now.stage == "waiting":
        return f"waiting for {count(now.in_flight)} answers"
    return now.stage


def _bar(now: Now, width: int) -> Text:
    if now.part_done is None:
        return Text(duration(now.at_s))
    left = "" if now.left_s is None else f", {duration(now.left_s)} left"
    # Its width does not change each second.
    told = f" {now.part_done:4.0%}  {duration(now.at_s)}{left}".ljust(34)
    room = max(width - len(told), 10)
    done = int(now.part_done * room)
    return Text.assemble(("━" * done, "green"), ("━" * (room - done), "bright_black"), told)


def _counts(now: Now) -> Text:
    failed = "bold red" if now.failed else ""
    return Text.assemble(
        ("sent ", "dim"), count(now.sent), ("  answered ", "dim"), count(now.answered),
        ("  failed ", "dim"), (count(now.failed), failed),
        ("  in flight ", "dim"), count(now.in_flight),
    )  # fmt: skip


def _rates(now: Now) -> Text:
    return Text.assemble(
        (number(now.sent_per_s), "bold"), (" sent/s  ", "dim"),
        (number(now.answered_per_s), "bold"), (" answered/s  ", "dim"),
        (number(now.output_tokens_per_s), "bold"), (" output tokens/s", "dim"),
    )  # fmt: skip


def _latencies(now: Now) -> Iterator[Text]:
    lately, whole = f"last {LATELY_S:g} s", "measured so far"
    third = 3 * _NUMBER
    yield Text(f"{'':{_LABEL}}{lately:>{third}}{whole:>{third + _GAP}}", style="dim")
    heads = "".join(f"{one:>{_NUMBER}}" for one in _PERCENTS)
    yield Text(f"{'':{_LABEL}}{heads}{'':{_GAP}}{heads}", style="dim")
    for name, spreads in (
        ("TTFT", (now.ttft_lately, now.ttft)),
        ("ITL", (now.itl_lately, now.itl)),
    ):
        cells = f"{'':{_GAP}}".join(_cells(spread) for spread in spreads)
        yield Text.assemble((f"{name:{_LABEL}}", "bold"), cells)


def _cells(spread: Spread) -> str:
    values = (seconds(getattr(spread, one)) for one in _PERCENTS)
    return "".join(f"{value:>{_NUMBER}}" for value in values)


def _history(now: Now, width: int) -> Iterator[Text]:
    lines: list[tuple[str, list[float | None], Callable[[float | None], str]]] = [
        ("answers/s", now.answers_by_time, number),
        ("TTFT p95", now.ttft_by_time, seconds),
    ]
    for name, values, written in lines:
        seen = [value for value in values if value is not None]
        if seen:
            room = max(width - _LABEL - 24, 1)
            told = f" {written(seen[-1])}, at most {written(max(seen))}"
            yield Text.assemble(
                (f"{name:{_LABEL}}", "bold"), (sparkline(values[-room:]), "cyan"), told
            )


def _tester(now: Now) -> Text:
    late = now.lag_p99_s is not None and now.lag_p99_s > LATE_S
    busy = now.cpu_share is not None and now.cpu_share > CPU_SHARE
    cpu = NOTHING if now.cpu_share is None else f"{now.cpu_share:.0%}"
    return Text.assemble(
        (f"{'tester':{_LABEL}}", "bold"),
        ("sends ", "dim"), (seconds(now.lag_p99_s), "bold red" if late else ""),
        (" late (p99)", "dim"),
        ("  CPU ", "dim"), (cpu, "bold red" if busy else ""),
    )  # fmt: skip


def _labelled(name: str, value: str, style: str = "") -> Text:
    return Text.assemble((f"{name:{_LABEL}}", "bold"), (value, style))


def _better_near_1(part: float) -> str:
    return "green" if part >= 0.99 else "yellow" if part >= 0.9 else "red"
