"""`loraplex extract`: an adapter out of a full fine-tune and its base."""

from pathlib import Path
from typing import Annotated

import typer

from loraplex.cache import cache_dir
from loraplex.connection import AsJson
from loraplex.extract_view import show
from loraplex.merge_run import as_progress, check_new, name_of
from loraplex.stages import stages_with_bytes
from loraplex.train import errors_of_training


def extract(
    base: Annotated[
        str, typer.Option(metavar="embedded|PATH|HUB_ID", help="The model it was tuned from.")
    ],
    tuned: Annotated[str, typer.Option(metavar="PATH|HUB_ID", help="The fully tuned model.")],
    rank: Annotated[int, typer.Option(min=1, help="The adapter's rank at most.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for the adapter.")],
    allow_left_out: Annotated[
        bool,
        typer.Option(
            "--allow-left-out", help="Go on where it changed what no adapter holds, and say what."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make an adapter of a fully tuned model, so that it can be served beside others on its base.

    Each weight's difference from the base is cut to the rank by SVD; the result says how much of
    it the adapter holds, layer by layer.
    """
    from adapters_registry.models import resolve_model
    from training.merge.extract import extract as run

    check_new(out)
    with errors_of_training():
        with stages_with_bytes() as stages:
            base_folder = resolve_model(base, cache_dir(), report=stages)
            found = run(
                base_folder,
                resolve_model(tuned, cache_dir(), report=stages),
                rank,
                out,
                as_progress(stages),
                cache_dir=cache_dir(),
                base_name=name_of(base_folder, stages),
                allow_left_out=allow_left_out,
            )
        show(found, as_json=as_json)
