"""`loraplex merge`: adapters become part of the base's weights, or one new adapter."""

from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from loraplex.connection import AsJson, Key, Url
from loraplex.errors import UsageError
from loraplex.merge_options import (
    BaseQuantization,
    Compute,
    Dtype,
    Method,
    MethodOptions,
    Sign,
    byte_size,
    combine_method,
    read_probes,
    weighted_source,
)
from loraplex.merge_run import Asked, run_combine, run_merge

_SEVERAL = "Several adapters"
_WRITTEN = "What is written"
_CHECKED = "Verification"
_SHARD_SIZE = "5GB"


def merge(
    base: Annotated[
        str, typer.Option(metavar="embedded|PATH|HUB_ID", help="The model the adapters are of.")
    ],
    adapter: Annotated[
        list[str],
        typer.Option(
            metavar="A[=WEIGHT]",
            help="A folder, or TENANT/ADAPTER[@N]. May be given several times.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder.")],
    method: Annotated[
        Method | None,
        typer.Option(
            metavar="NAME",
            help=f"How they are combined: {', '.join(Method)}. Default: cat, the exact sum.",
            rich_help_panel=_SEVERAL,
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(metavar="0..1", help="The part of each that stays.", rich_help_panel=_SEVERAL),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(min=1, help="Of the SVD's result.", rich_help_panel=_SEVERAL),
    ] = None,
    sign: Annotated[
        Sign | None,
        typer.Option(help="What decides between signs in TIES.", rich_help_panel=_SEVERAL),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of what DARE drops.", rich_help_panel=_SEVERAL)
    ] = None,
    as_adapter: Annotated[
        bool,
        typer.Option(
            "--as-adapter", help="One new adapter, not a model.", rich_help_panel=_WRITTEN
        ),
    ] = False,
    dtype: Annotated[
        Dtype,
        typer.Option(
            metavar="TYPE",
            help="Of the weights: base (each as it is), float32, float16 or bfloat16.",
            rich_help_panel=_WRITTEN,
        ),
    ] = Dtype.BASE,
    compute: Annotated[
        Compute, typer.Option(help="What the sum is made in.", rich_help_panel=_WRITTEN)
    ] = Compute.FLOAT32,
    max_shard_size: Annotated[
        str,
        typer.Option(metavar="SIZE", help="Of a file, as 500MB.", rich_help_panel=_WRITTEN),
    ] = _SHARD_SIZE,
    base_quantization: Annotated[
        BaseQuantization,
        typer.Option(
            metavar="KIND",
            help="Of the base in training: auto (as the adapter says), none, nf4 or fp4.",
            rich_help_panel=_WRITTEN,
        ),
    ] = BaseQuantization.AUTO,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify",
            help="Compare the result with base and adapters.",
            rich_help_panel=_CHECKED,
        ),
    ] = True,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="LOGITS",
            min=0.0,
            help="The largest difference allowed. Default: twice what rounding makes.",
            rich_help_panel=_CHECKED,
        ),
    ] = None,
    probes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSONL of prompts to compare on. Default: a dozen of its own.",
            rich_help_panel=_CHECKED,
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Bake adapters into the base's weights, and verify that the result answers as they do on it.

    Takes the memory of a few tensors, whatever the model's size. The same command goes on with a
    merge that was stopped. If the result is wrong it ends with 1 and leaves no folder.
    """
    for option, given in {
        "--compute": compute is not Compute.FLOAT32,
        "--max-shard-size": max_shard_size != _SHARD_SIZE,
        "--base-quantization": base_quantization is not BaseQuantization.AUTO,
        "--no-verify": not verify,
        "--tolerance": tolerance is not None,
        "--probes": probes is not None,
    }.items():
        if as_adapter and given:
            raise UsageError(f"{option} is of a merged model, and --as-adapter writes none")
    if not verify and (tolerance is not None or probes is not None):
        raise UsageError("--tolerance and --probes are of the check that --no-verify leaves out")
    if tolerance is not None and not isfinite(tolerance):
        raise UsageError("--tolerance: write a number; a check without limit is --no-verify")
    asked = Asked(
        base=base,
        adapters=tuple(map(weighted_source, adapter)),
        out=out,
        method=combine_method(
            MethodOptions(method, density, rank, sign, seed),
            adapters=len(adapter),
            as_adapter=as_adapter,
        ),
        dtype=dtype.value,
        compute=compute.value,
        max_shard_bytes=byte_size(max_shard_size),
        base_quantization=base_quantization.value,
        verify=verify,
        tolerance=tolerance,
        probes=None if probes is None else read_probes(probes),
        url=url,
        key=key,
    )
    if as_adapter:
        run_combine(asked, as_json=as_json)
    else:
        run_merge(asked, as_json=as_json)
