"""`loraplex train`: a recipe becomes a judged adapter, and on request a version in the registry."""

import json
import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraplex.cache import cache_dir
from loraplex.client.answers import Version
from loraplex.connection import AsJson, Key, Url, gateway_connection
from loraplex.errors import CommandError, UsageError
from loraplex.files import written_whole
from loraplex.output import note, print_line, warn
from loraplex.refs import adapter_ref
from loraplex.stages import stages
from loraplex.train_view import (
    estimate_fields,
    show_estimate,
    show_registered,
    show_result,
    show_unregistered,
)

if TYPE_CHECKING:  # the trainer's libraries are loaded only when a run is asked for
    from loraplex.train_register import Registration
    from training.bench import OpenBench
    from training.pipeline import RunOptions, RunResult
    from training.recipe.recipe import Recipe

_PASSED, _NOT_PASSED = 0, 1


class Evaluator(StrEnum):
    """Where base, candidate and live version are asked."""

    ENGINE = "engine"
    GATEWAY = "gateway"


def train(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE.yaml", help="What to train, and how.")
    ] = None,
    init: Annotated[
        bool, typer.Option("--init", help="Write a commented recipe for --data to --out.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="With --init: the rows.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="PATH", help="The run's folder; else RECIPE.run beside the recipe."
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a field, as schedule.epochs=2."),
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(
            "--register", metavar="TENANT/ADAPTER", help="Push the version with its verdict."
        ),
    ] = None,
    evaluate_at: Annotated[
        Evaluator,
        typer.Option(
            help="`engine`: a vLLM of its own. `gateway`: the gateway's engines, with --register."
        ),
    ] = Evaluator.ENGINE,
    num_processes: Annotated[
        int, typer.Option("--num-processes", min=1, help="Processes that train, one a GPU.")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="All checks and the estimate; writes nothing.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Anew, in place of the run that the folder holds.")
    ] = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Train an adapter, evaluate it against the base and the live version, and judge it.

    The same command goes on with a run that was stopped, and shows one that is finished. Ends with
    0 if the adapter passed its gates, with 1 if it did not, with 2 if the recipe cannot be run.
    """
    if init:
        _init(data, out)
        return
    if recipe is None:
        raise UsageError("which recipe? Write one: loraplex train --init --data FILE --out FILE")
    if data is not None:
        raise UsageError("--data goes with --init; here it is --set data.train=FILE")
    registration = _registration(register, evaluate_at, url, key)
    # It warns of a kernel for 4-bit models that a person can do nothing about.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with errors_of_training():
        loaded = _load(recipe, sets or [], registration)
        folder = out or recipe.with_suffix(".run")
        options = _options(recipe, folder, sets or [], num_processes, again=again)
        if dry_run:
            _dry_run(loaded, options, as_json=as_json)
            return
        result = _run(loaded, folder, options, registration, evaluate_at)
        _finish(result, registration, as_json=as_json)
    raise typer.Exit(_PASSED if result.verdict == "passed" else _NOT_PASSED)


@contextmanager
def errors_of_training() -> Iterator[None]:
    """What the training module and the model loader raise, as the command's errors."""
    from adapters_registry.errors import ModelError
    from training.errors import RecipeError, TrainingError

    try:
        yield
    except RecipeError as error:
        raise UsageError(error.message) from error
    except (TrainingError, ModelError) as error:
        raise CommandError(error.message) from error


def _init(data: Path | None, out: Path | None) -> None:
    from training.recipe.template import recipe_template

    if data is None or out is None:
        raise UsageError("--init needs --data FILE and --out RECIPE.yaml")
    with errors_of_training():
        text = recipe_template(data, out.absolute().parent)
    with written_whole(out) as write:
        write(text.encode())
    print_line(f"Wrote {out}.")
    print_line("Write under `gates` what the adapter must show, then look at the data and train:")
    print_line(f"  loraplex data check {shlex.quote(str(data))}")
    print_line(f"  loraplex train {shlex.quote(str(out))} --dry-run")
    print_line(f"  loraplex train {shlex.quote(str(out))}")


def _registration(
    register: str | None, evaluate_at: Evaluator, url: str | None, key: str | None
) -> "Registration | None":
    from loraplex.train_register import Registration

    if register is not None:
        return Registration(gateway_connection(url, key), adapter_ref(register))
    if evaluate_at is Evaluator.GATEWAY:
        raise UsageError(
            "--evaluate-at gateway needs --register TENANT/ADAPTER: a gateway serves only what was "
            "pushed"
        )
    if url is not None or key is not None:
        raise UsageError("--url and --key go with --register TENANT/ADAPTER")
    return None


def _load(path: Path, overrides: Sequence[str], registration: "Registration | None") -> "Recipe":
    from training.inputs import UNSERVED_METHODS
    from training.recipe.loading import load_recipe

    recipe = load_recipe(path, overrides)
    if registration is not None and recipe.method in UNSERVED_METHODS:
        raise UsageError(
            f"method: {recipe.method} adapters cannot be served, so none is registered; leave out "
            "--register, or train with method: lora"
        )
    return recipe


def _options(
    recipe: Path, folder: Path, overrides: Sequence[str], num_processes: int, *, again: bool
) -> "RunOptions":
    from training.pipeline import RunOptions

    words = ["loraplex", "train", str(recipe), "--out", str(folder)]
    for override in overrides:
        words += ["--set", override]
    if num_processes > 1:
        words += ["--num-processes", str(num_processes)]
    return RunOptions(
        name=recipe.stem,
        command=shlex.join(words),
        cache_dir=cache_dir(),
        num_processes=num_processes,
        again=again,
    )


def _dry_run(recipe: "Recipe", options: "RunOptions", *, as_json: bool) -> None:
    from training.pipeline import check_run

    with stages() as progress:
        checked = check_run(recipe, options, progress)
    if as_json:
        print(json.dumps(estimate_fields(checked), ensure_ascii=False))
    else:
        show_estimate(checked)


def _run(
    recipe: "Recipe",
    folder: Path,
    options: "RunOptions",
    registration: "Registration | None",
    evaluate_at: Evaluator,
) -> "RunResult":
    from training.bench import offline_bench
    from training.pipeline import run

    open_bench: OpenBench = offline_bench
    if registration is not None:
        registration.check()
        at_gateway = evaluate_at is Evaluator.GATEWAY
        open_bench = registration.at_gateway if at_gateway else registration.offline
    try:
        with stages() as progress:
            return run(recipe, folder, options, open_bench=open_bench, progress=progress, warn=warn)
    except KeyboardInterrupt:
        note(f"Stopped. The same command goes on from here; {folder} holds what is done.")
        raise


def _finish(result: "RunResult", registration: "Registration | None", *, as_json: bool) -> None:
    """Shows the result before it is registered: a push that fails must not hide what was found."""
    if not as_json:
        show_result(result)
    version = None if registration is None else _register(registration, result)
    if as_json:
        print(json.dumps(_plain(result, version), ensure_ascii=False))
    elif registration is None or version is None:
        show_unregistered(result)
    else:
        show_registered(result, registration.ref, version)


def _register(registration: "Registration", result: "RunResult") -> Version:
    try:
        version = registration.register(result)
    except CommandError as error:
        raise CommandError(
            f"the run is finished, but it is not registered: {error.message}\n"
            f"The same command registers it and trains nothing anew. Report: {result.page}"
        ) from error
    for text in version["warnings"]:
        warn(text)
    return version


def _plain(result: "RunResult", version: Version | None) -> dict[str, Any]:
    reasons = [f"{gate.gate}: {gate.outcome}: {gate.reason}" for gate in result.report.gates]
    found: dict[str, Any] = {
        "adapter_dir": str(result.adapter_dir),
        "verdict": result.verdict,
        "reasons": reasons,
        "report": str(result.page),
    }
    return found if version is None else {**found, "version": version["version"]}
