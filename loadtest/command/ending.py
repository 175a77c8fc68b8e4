"""What a run leaves, whatever ended it: files, a summary or JSON, a push, the exit code."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.command.errors import DONE, FAILED, INTERRUPTED
from loadtest.command.saying import fail, note, out, warn
from loadtest.report.result import RESULT_FILE, Result, write_result
from loadtest.report.tables import TABLE_FILES
from loadtest.report.verdict import doubts
from loadtest.report.writing import write_whole

PAGE_FILE = "report.html"
_NOT_PRINTED = {"rows", "histograms", "timeline"}
"""Of result.json, by --json: long, and for programs that read the file."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What is to become of the result. push: a Pushgateway's address."""

    folder: Path
    report: bool
    as_json: bool
    push: str | None
    push_job: str
    push_labels: Mapping[str, str]


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C does nothing meanwhile: an impatient one more must not cost the result."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # Not in the main thread, which alone gets it.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def keep(result: Result, folder: Path) -> str | None:
    """Writes result.json; report and tables of a result that it replaces go. What went wrong."""
    try:
        write_result(result, folder)
        for name in (PAGE_FILE, *TABLE_FILES):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        return f"--out: {folder} cannot be written ({error.strerror}); no file holds these figures"
    return None


def end(result: Result, ending: Ending, unkept: str | None) -> int:
    """Makes the report of a result, shows it, says what was wrong; the exit code. unkept: why
    there is no result.json, which must not cost its figures."""
    broken = [unkept] if unkept else [*_kept(result, ending)]
    broken += _pushed(result, ending)
    problems = [*problems_of(result)]
    broken += _shown(result, ending)
    if ending.as_json:
        # The summary says all of that itself.
        _say((line.text for line in doubts(result)), problems)
    _say((), broken)
    return exit_code(result, [*problems, *broken])


def problems_of(result: Result) -> Iterator[str]:
    """Why the run failed, in sentences."""
    if result.problem is not None:
        yield result.problem
    elif result.ended == "completed" and not result.requests.ok:
        yield _nothing_answered(result)
    if result.knee is not None and not result.knee.knee.rate:
        yield f"--find-knee: {result.knee.knee.reason}"
    for verdict in result.conditions:
        if verdict.failed:
            yield f"--fail-if {verdict.reason}"


def exit_code(result: Result, problems: list[str]) -> int:
    """An interruption by the user goes before a condition that failed with it."""
    if result.ended == "interrupted" and result.problem is None:
        return INTERRUPTED
    return FAILED if problems else DONE


def printed(result: Result, folder: Path) -> str:
    """What --json prints: result.json without rows, histograms and timeline, and `out`."""
    told: dict[str, Any] = json.loads(result.model_dump_json(exclude=_NOT_PRINTED))
    return json.dumps(told | {"out": str(folder)}, indent=2, ensure_ascii=False)


def _kept(result: Result, ending: Ending) -> Iterator[str]:
    """Writes the tables and the page; yields what went wrong. result.json is there by then."""
    try:
        from loadtest.report.tables import write_tables

        write_tables(result, ending.folder)
        if ending.report:
            from loadtest.report.page import page

            write_whole(ending.folder / PAGE_FILE, page(result))
    # Whatever it is, the figures are to be shown all the same.
    except (Exception, KeyboardInterrupt) as error:
        yield f"the report could not be made ({_why(error)}); result.json is whole"


def _pushed(result: Result, ending: Ending) -> Iterator[str]:
    if ending.push is None:
        return
    from loadtest.report.push import PushError, push

    try:
        push(result, ending.push, ending.push_job, ending.push_labels)
    except PushError as error:
        yield str(error)
    except KeyboardInterrupt:
        yield "--push: interrupted; the Pushgateway may not have the figures"


def _say(warnings: Iterable[str], errors: Iterable[str]) -> None:
    for text in warnings:
        warn(text)
    for text in errors:
        fail(text)


def _shown(result: Result, ending: Ending) -> Iterator[str]:
    """Prints the result; yields what went wrong."""
    try:
        if ending.as_json:
            out(printed(result, ending.folder))
        else:
            _show(result, ending)
    except OSError as error:
        # What is left in the buffer must not fail once more when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        yield f"the result cannot be printed ({error.strerror}); {ending.folder} holds its files"


def _show(result: Result, ending: Ending) -> None:
    from rich.console import Console

    from loadtest.view.summary import summary

    Console().print(summary(result))
    if result.knee is not None:
        from loadtest.view.knees import knee

        Console().print(knee(result.knee))
    files = _files(ending.folder)
    if files:
        note(f"{files}: {ending.folder}")


def _files(folder: Path) -> str:
    """Those that are there: the report may have failed."""
    files = [name for name in (PAGE_FILE, RESULT_FILE) if (folder / name).exists()]
    files += ["tables"] if all((folder / name).exists() for name in TABLE_FILES) else []
    return " and ".join([", ".join(files[:-1]), files[-1]] if files[1:] else files)


def _nothing_answered(result: Result) -> str:
    if not result.requests.sent:
        return "no request was measured; make the run longer, or the warm-up shorter"
    kinds = ", ".join(f"{many} x {kind}" for kind, many in _by_count(result.errors))
    return "no request was answered" + (f" ({kinds})" if kinds else "")


def _by_count(errors: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(errors.items(), key=lambda one: -one[1])


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Not the message: it may quote what a request held.
    return type(error).__name__
