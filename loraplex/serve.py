"""`loraplex serve`: the gateway, with vLLM as its child or attached to an engine that runs."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

_WRONG_USAGE = 2


def serve(
    engine_args: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- VLLM_FLAGS...]", help="Passed on to vLLM as they are."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on [default: 127.0.0.1].")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the gateway [default: 8080].")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Gateway processes that share the port [default: 1].")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of the Prometheus endpoint [default: 9464].")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="What must not be lost: database, adapters, admin key.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="`embedded`, a folder or a Hub id [default: embedded].")
    ] = None,
    served_name: Annotated[
        str | None, typer.Option(help="The base model's name for clients.")
    ] = None,
    max_lora_rank: Annotated[
        int | None, typer.Option(help="Highest rank an adapter may have [default: 16].")
    ] = None,
    engine_url: Annotated[
        list[str] | None,
        typer.Option(help="Attach to this vLLM instead of starting one (repeatable)."),
    ] = None,
    max_loras: Annotated[
        int | None, typer.Option(help="Adapters in one batch [default: 8].")
    ] = None,
    max_cpu_loras: Annotated[
        int | None, typer.Option(help="Adapters an engine keeps in memory [default: 64].")
    ] = None,
    max_model_len: Annotated[
        int | None, typer.Option(help="Context length [default: the model's own, if it fits].")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Weights' type [default: chosen from the machine].")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL [default: SQLite in the data dir].")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error [default: info].")
    ] = None,
) -> None:
    """Run the gateway, with vLLM as its child.

    Every setting can also stand in the environment (LORAPLEX_...) or in the --config file.
    Stops on Ctrl-C or SIGTERM: the gateway finishes what is in flight, then vLLM is ended.
    """
    flags = {name: value for name, value in locals().items() if name != "config"}
    raise typer.Exit(_run(flags, config))


def _run(flags: dict[str, Any], config: Path | None) -> int:
    """The exit code."""
    from gateway.config import SettingsError, load_settings
    from gateway.console import Console
    from gateway.engine_flags import refuse_flags
    from gateway.launch import own_environment
    from gateway.startup import serve as run_serve

    console = Console()
    # Typer gives an empty list where a repeatable flag was not given.
    given = {name: None if value == [] else value for name, value in flags.items()}
    try:
        settings = load_settings(given, config)
        if reason := refuse_flags(settings.engine_args):
            raise SettingsError(reason)
        if settings.engine_args and settings.engine_url:
            raise SettingsError("flags for vLLM: an attached engine was started by others")
        return asyncio.run(run_serve(settings, own_environment(), console))
    except SettingsError as error:
        console.fail(str(error))
        return _WRONG_USAGE
