"""What was planted and what was seen of it, as JSON and as a page."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.planting.cases import Case
from benchmarks.planting.trial import Seen

_SHOWN_CHARS = 320


@dataclass(frozen=True)
class Outcome:
    """One run. what: the twin is. held: whether it went as it should. said: lines of its output."""

    name: str
    kind: Literal["fault", "twin", "good"]
    what: str
    held: bool
    said: tuple[str, ...]
    seen: Seen


@dataclass(frozen=True)
class Results:
    """All that one run of the benchmark found. asked: how many runs were to be made."""

    at: str
    machine: dict[str, str]
    versions: dict[str, str]
    asked: int
    outcomes: list[Outcome]

    def of(self, kind: str) -> list[Outcome]:
        """Those of one kind, in order."""
        return [one for one in self.outcomes if one.kind == kind]

    def as_json(self) -> dict[str, Any]:
        """With the claims."""
        return asdict(self) | {"claims": dict(claims(self))}


def fault_outcome(case: Case, seen: Seen) -> Outcome:
    """Caught: the run does not pass, says all that it should, and as early as it should."""
    lines = [seen.says(pattern) for pattern in case.says]
    early = not (case.before and seen.trained)
    said = dict.fromkeys([*filter(None, lines), *seen.alarms, *seen.refused_gates])
    held = seen.verdict != "passed" and early and None not in lines
    return Outcome(case.name, "fault", "", held, tuple(said), seen)


def harmless_outcome(name: str, twin_is: str | None, seen: Seen) -> Outcome:
    """Passed: every gate, and no alarm. twin_is: what a twin is; None of a good run."""
    held = seen.verdict == "passed" and not seen.alarms
    said = (*seen.alarms, *seen.refused_gates)
    return Outcome(name, "good" if twin_is is None else "twin", twin_is or "", held, said, seen)


def claims(results: Results) -> list[tuple[str, bool]]:
    """What should be, and whether it was."""
    told = []
    for kind, what in (
        ("fault", "faults were caught, each with the right message"),
        ("twin", "harmless twins passed without an alarm"),
        ("good", "good runs passed without an alarm"),
    ):
        if found := results.of(kind):
            held = sum(one.held for one in found)
            told.append((f"{held} of {len(found)} {what}", held == len(found)))
    return told


def markdown(results: Results) -> str:
    """The page."""
    done = len(results.outcomes)
    part = "" if done == results.asked else f" A part: {done} of {results.asked} runs."
    seconds = sum(one.seen.seconds for one in results.outcomes)
    versions = ", ".join(f"{name} {value}" for name, value in results.versions.items())
    return "\n".join(
        [
            "# Planted faults, their twins, and good runs",
            "",
            f"{results.at}, {results.machine['processor']}, {results.machine['cores']} cores;"
            f" {versions}. The runs took {seconds / 60:.0f} minutes together.{part}",
            "",
            *(f"- {'held' if ok else '**not held**'}: {text}" for text, ok in claims(results)),
            "",
            *_faults(results),
            *_twins(results),
            *_good(results),
        ]
    )


def _faults(results: Results) -> list[str]:
    rows = [
        f"| {one.name} | {_yes(one.held)} | {_when(one.seen)} | {_shown(one.said)} |"
        for one in results.of("fault")
    ]
    head = ["| fault | caught | when | what the user saw |", "|---|---|---|---|"]
    return ["## Faults", "", *head, *rows, ""] if rows else []


def _twins(results: Results) -> list[str]:
    rows = [
        f"| {one.name} | {one.what} | {_yes(one.held)} | {_scores(one.seen)} | {_shown(one.said)} |"
        for one in results.of("twin")
    ]
    head = [
        "| of the fault | the twin | passed | figures | alarms |",
        "|---|---|---|---|---|",
    ]
    return ["## Twins", "", *head, *rows, ""] if rows else []


def _good(results: Results) -> list[str]:
    rows = [
        f"| {one.name} | {_yes(one.held)} | {_scores(one.seen)} | {_shown(one.said)} |"
        for one in results.of("good")
    ]
    head = ["| run | passed | figures | false alarms |", "|---|---|---|---|"]
    return ["## Good runs", "", *head, *rows, ""] if rows else []


def _yes(held: bool) -> str:
    return "yes" if held else "**no**"


def _when(seen: Seen) -> str:
    if seen.verdict is not None:
        return f"{_scores(seen)}: {seen.verdict}"
    return "in training" if seen.trained else "before the first step"


def _scores(seen: Seen) -> str:
    shown = ("exact_match", "forgetting")
    return ", ".join(f"{name} {seen.metrics[name]:g}" for name in shown if name in seen.metrics)


def _shown(lines: Sequence[str]) -> str:
    if not lines:
        return "-"
    short = (
        line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}..."
        for line in map(_one_line, lines)
    )
    return "<br>".join(f"`{line.replace('|', '¦').replace('`', chr(39))}`" for line in short)


def _one_line(text: str) -> str:
    return " ".join(text.split())
