"""A load test's course: everything checked, the target looked at, the run, and its end."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loadtest.client.target import Target
from loadtest.command.asked import Asked
from loadtest.command.building import fields_of, needs_models, workload_of
from loadtest.command.comparing import compare_results
from loadtest.command.ending import Ending, end, keep, undisturbed
from loadtest.command.environment import environment
from loadtest.command.errors import DONE, CommandEnd, Usage
from loadtest.command.folder import check_output, out_folder
from loadtest.command.knee_search import Search, search_of, search_watched
from loadtest.command.plan import Judging, judging_of, labels_of, options_of
from loadtest.command.preflight import Seen, known_models, look, only_model, remarks
from loadtest.command.previewing import preview
from loadtest.command.saying import note, warn
from loadtest.command.single import Ran, run_watched
from loadtest.command.target import target_of, with_tenants
from loadtest.report.machine import this_machine
from loadtest.report.make import About, make_result
from loadtest.report.result import KneeSearch
from loadtest.running.options import Options
from loadtest.workload.schedule import Extent, extent
from loadtest.workload.spec import Workload


@dataclass(frozen=True, slots=True)
class Prepared:
    """A load test that is checked, and whose target was there."""

    workload: Workload
    target: Target
    options: Options
    judging: Judging
    search: Search | None
    models: str | None
    """What the server has, where it tells."""


def course(asked: Asked) -> int:
    """Does what was asked; the exit code. Raises CommandEnd, WorkloadError, TargetError."""
    asked.check()
    if asked.compare.compare is not None:
        return compare_results(asked.compare, asked.output)
    if asked.output.dry_run:
        return _dry_run(asked)
    labels = labels_of(asked.output)
    prepared = _prepared(asked)
    now = datetime.now(UTC)
    with _folder(asked, now) as folder:
        ran, knee = _run(prepared)
    ending = Ending(
        folder,
        asked.output.report,
        asked.output.json,
        asked.output.push,
        asked.output.push_job,
        labels,
    )
    about = About(
        made_at=now,
        machine=this_machine(),
        name=asked.output.name,
        price_per_hour=prepared.judging.price_per_hour,
        conditions=prepared.judging.conditions,
    )
    with undisturbed():
        result = make_result(
            ran.measured, ran.outcome, ran.workload, prepared.target, ran.options, about, knee=knee
        )
        unkept = keep(result, folder)
    return end(result, ending, unkept)


def _dry_run(asked: Asked) -> int:
    fields = fields_of(asked.load, asked.who, asked.ask)
    if needs_models(fields):
        raise Usage("--model: is missing; name one")
    preview(workload_of(fields, asked.load), as_json=asked.output.json)
    return DONE


def _prepared(asked: Asked) -> Prepared:
    """Everything that can be known without the server is checked before it is asked."""
    check_output(asked.output)
    judging = judging_of(asked.judge)
    environ = environment()
    target = target_of(asked.target, environ)
    fields = fields_of(asked.load, asked.who, asked.ask)
    nameless = needs_models(fields)
    workload = workload_of(fields | ({"models": ["?"]} if nameless else {}), asked.load)
    options = options_of(asked.run, asked.load, workload)
    search = search_of(asked.knee, workload, options) if asked.knee.find_knee else None
    if search is None:
        _check_extent(extent(workload), options)
    target = with_tenants(target, workload, environ)
    seen = look(target, [tenant.name for tenant in workload.tenants])
    if nameless:
        fields["models"] = [only_model(seen[0])]
        note(f"--model is left out: asking for the server's only one, `{fields['models'][0]}`")
        workload = workload_of(fields, asked.load)
    _judge_seen(workload, seen, keep_going=options.keep_going)
    return Prepared(workload, target, options, judging, search, known_models(seen))


def _check_extent(expected: Extent, options: Options) -> None:
    """Raises Usage where nothing would be sent, or measured."""
    if expected.arrivals == 0:
        raise Usage("--rate: nothing would be sent; give one above 0")
    options.phases(expected.seconds)


def _judge_seen(workload: Workload, seen: list[Seen], *, keep_going: bool) -> None:
    problem = next((one.problem for one in seen if one.problem is not None), None)
    if problem is not None and not keep_going:
        raise CommandEnd(problem)
    for text in [*([problem] if problem else []), *remarks(workload, seen)]:
        warn(text)


def _run(prepared: Prepared) -> tuple[Ran, KneeSearch | None]:
    slo = prepared.judging.slo
    if prepared.search is not None and slo is not None:
        return search_watched(
            prepared.search, prepared.workload, prepared.target, prepared.options, slo
        )
    ran = run_watched(
        prepared.workload, prepared.target, prepared.options, slo, models=prepared.models
    )
    return ran, None


@contextlib.contextmanager
def _folder(asked: Asked, now: datetime) -> Iterator[Path]:
    """The folder for the run's files; where the run does not begin, none is left."""
    folder = out_folder(asked.output, now.astimezone())
    try:
        yield folder
    except BaseException:  # Ctrl-C too. A folder that holds anything stays.
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise
