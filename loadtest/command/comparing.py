"""`--compare A B`: two results side by side, and whether B is worse."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest.command.errors import DONE, FAILED, CommandEnd, Usage
from loadtest.command.folder import check_page
from loadtest.command.options import CompareOptions, OutputOptions
from loadtest.command.saying import fail, note, out
from loadtest.command.values import share_of
from loadtest.report.result import Result, read_result
from loadtest.report.writing import write_whole
from loadtest.statistics.compare import Comparison, Difference, Run, compare
from loadtest.statistics.units import StatisticsError, nearest

FIGURES = (
    *(f"{time}_{of}" for time in ("ttft", "itl", "tpot", "e2e") for of in ("mean", "p50", "p95",
    "p99")),
    "errors", "requests_per_s", "output_tokens_per_s",
)  # fmt: skip
"""What a comparison may hold, and --fail-if-worse may name."""
ANY = "any"
_FORM = re.compile(r"\s*(\w+)(?:\s+by\s+(.+?))?\s*")


@dataclass(frozen=True, slots=True)
class Worse:
    """A run fails if `figure` is worse, by at least the share `by`."""

    text: str
    figure: str
    by: float

    def failed(self, difference: Difference) -> bool:
        """Whether this difference is what must not be. A change from 0 is as large as can be."""
        if self.figure not in (ANY, difference.figure) or difference.direction != "worse":
            return False
        return difference.change is None or abs(difference.change) >= self.by


def parse_worse(text: str) -> Worse:
    """`ttft_p95`, `ttft_p95 by 5%` or `any`. Raises Usage."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise Usage(
            f"--fail-if-worse: `{text}` is not FIGURE or FIGURE by SHARE, as ttft_p95 by 5%"
        )
    figure, by = found.groups()
    if figure not in (*FIGURES, ANY):
        hint = nearest(figure, FIGURES) or f"; known are {', '.join(FIGURES)} and any"
        raise Usage(f"--fail-if-worse: `{figure}` is no figure{hint}")
    return Worse(text.strip(), figure, 0.0 if by is None else share_of(by, "--fail-if-worse"))


def compare_results(options: CompareOptions, output: OutputOptions) -> int:
    """Shows how B differs from A; the exit code. Raises Usage, CommandEnd."""
    assert options.compare is not None
    rules = [parse_worse(text) for text in options.fail_if_worse or ()]
    if output.out is not None:
        check_page(output)
    a, b = (_read(path) for path in options.compare)
    try:
        comparison = compare(_run(a, options.compare[0]), _run(b, options.compare[1]))
    except StatisticsError as error:
        raise CommandEnd(str(error)) from None
    if output.out is not None:
        _keep(comparison, a, b, output, output.out)
    if output.json:
        out(as_json(comparison))
    else:
        _show(comparison)
    failed = [*_failures(comparison, rules)]
    for text in failed:
        fail(text)
    return FAILED if failed else DONE


def _failures(comparison: Comparison, rules: Sequence[Worse]) -> Iterator[str]:
    for rule in rules:
        there = [one for one in comparison.differences if rule.figure in (ANY, one.figure)]
        if not there:
            yield f"--fail-if-worse {rule.text}: {rule.figure} was not measured in both runs"
        elif all(one.low is None for one in there):
            # Passing what cannot be judged would pass every run that is short enough.
            yield (
                f"--fail-if-worse {rule.text}: the runs have too few requests to tell; run both for"
                " longer"
            )
        for one in there:
            if rule.failed(one):
                change = "" if one.change is None else f" by {one.change:+.1%}"
                yield f"--fail-if-worse {rule.text}: {one.figure} is worse{change}"


def _read(path: Path) -> Result:
    try:
        return read_result(path.expanduser())
    except StatisticsError as error:
        raise Usage(f"--compare: {error}") from None


def _run(result: Result, path: Path) -> Run:
    try:
        rows = result.table()
    except StatisticsError as error:
        raise Usage(f"--compare: {path}: {error}") from None
    requests = result.rows.get("of_requests")
    if not isinstance(requests, int) or requests < len(rows):
        raise Usage(f"--compare: {path}: rows: the file is damaged (of_requests)")
    return Run(result.name, rows, requests, result.schedule.digest or None)


def _keep(
    comparison: Comparison, a: Result, b: Result, output: OutputOptions, folder: Path
) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "comparison.json", as_json(comparison) + "\n")
        if output.report:
            from loadtest.report.comparison_page import comparison_page

            write_whole(folder / "comparison.html", comparison_page(comparison, a, b))
    except OSError as error:
        raise CommandEnd(f"--out: {folder} cannot be written ({error.strerror})") from None
    except (StatisticsError, KeyError, TypeError, ValueError) as error:
        raise CommandEnd(
            f"--compare: the page could not be made ({type(error).__name__}): a result.json is"
            " damaged; --no-report leaves the page out"
        ) from None
    files = "comparison.html and comparison.json" if output.report else "comparison.json"
    note(f"{files}: {folder}")


def as_json(comparison: Comparison) -> str:
    """All of it."""
    return json.dumps(asdict(comparison), indent=2, ensure_ascii=False)


def _show(comparison: Comparison) -> None:
    from rich.console import Console

    from loadtest.view.comparing import comparison as shown

    Console().print(shown(comparison))
