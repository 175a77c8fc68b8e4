"""`loraplex eval`: what a model answers on the serving engine, scored and compared."""

from pathlib import Path
from typing import Annotated

import typer

from loraplex.connection import AsJson, Key, Url
from loraplex.data import Answer, Label, Prompt, System, row_template
from loraplex.errors import UsageError
from loraplex.eval_blind import show_blind_result
from loraplex.eval_run import Options, Where, run
from loraplex.eval_view import show

_JUDGE = "A model as judge"
_BLIND = "Blind comparison by people"


def evaluate(
    base: Annotated[
        str,
        typer.Option(metavar="embedded|PATH|HUB_ID", help="The base model, asked for comparison."),
    ] = "embedded",
    adapter: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|TENANT/ADAPTER[@N]", help="The candidate: a folder, or a version."
        ),
    ] = None,
    live: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|TENANT/ADAPTER[@N]", help="Another adapter to compare the candidate with."
        ),
    ] = None,
    no_base: Annotated[
        bool, typer.Option("--no-base", help="Do not ask the base beside the adapter.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The held-out rows: JSONL, or CSV with columns below."),
    ] = None,
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="May be given several times. Default: exact_match and token_f1."
        ),
    ] = None,
    regression: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rows that must stay as good; scored as regression.*"),
    ] = None,
    general: Annotated[
        bool, typer.Option("--general", help="General ability too, and what was forgotten of it.")
    ] = False,
    max_items: Annotated[
        int | None, typer.Option(min=1, help="Rows of a file at most. Default: all.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 256,
    max_model_len: Annotated[
        int | None,
        typer.Option(
            min=8, help="Tokens of prompt and answer, offline. Default: the model's, 8192 at most."
        ),
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON Schema of schema_compliance.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Regular expression of the scorer regex.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new folder for result.json and every answer."),
    ] = None,
    engine: Annotated[
        Where,
        typer.Option(help="`offline`: a vLLM of its own. `gateway`: the gateway at --url."),
    ] = Where.OFFLINE,
    prompt: Prompt = None,
    answer: Answer = None,
    system: System = None,
    label: Label = None,
    judge_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI endpoint, up to and with /v1.", rich_help_panel=_JUDGE),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="Its model's name.", rich_help_panel=_JUDGE)
    ] = None,
    judge_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file that holds its key.", rich_help_panel=_JUDGE),
    ] = None,
    judge_items: Annotated[
        int, typer.Option(min=1, help="Items judged, in both orders.", rich_help_panel=_JUDGE)
    ] = 50,
    blind_sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Write pairs of answers for people to choose from; with --blind-key.",
            rich_help_panel=_BLIND,
        ),
    ] = None,
    blind_results: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Read the filled sheet; with --blind-key. Asks no model.",
            rich_help_panel=_BLIND,
        ),
    ] = None,
    blind_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Which answer is whose: keep it from those who choose.",
            rich_help_panel=_BLIND,
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Score what a model answers to held-out rows, with and without an adapter, item by item.

    Runs on vLLM, as serving does. A TENANT/ADAPTER@N comes from the gateway; without @N it is the
    live version.
    """
    if (blind_sheet or blind_results) and blind_key is None:
        raise UsageError("--blind-key: name the file that says which answer is whose")
    if blind_results is not None and blind_key is not None:
        show_blind_result(blind_results, blind_key, as_json=as_json)
        return
    if data is None:
        raise UsageError("--data: which rows? Name a file that the adapter was not trained on")
    if blind_sheet is not None and (adapter is None or (no_base and live is None)):
        raise UsageError("--blind-sheet needs two models: --adapter, and the base or --live")
    options = Options(
        base=base,
        adapter=adapter,
        live=live,
        with_base=not no_base or adapter is None,
        data=data,
        template=row_template(prompt, answer, system, label),
        scorers=tuple(scorer or ()),
        regression=regression,
        general=general,
        max_items=max_items,
        max_tokens=max_tokens,
        max_model_len=max_model_len,
        schema=schema,
        pattern=pattern,
        out=out,
        where=engine,
        judge_url=judge_url,
        judge_model=judge_model,
        judge_key_file=judge_key_file,
        judge_items=judge_items,
        blind_sheet=blind_sheet,
        blind_key=blind_key,
        url=url,
        key=key,
    )
    show(run(options), options, as_json=as_json)
