"""`loraplex status`: whether the gateway takes requests, and how its engines are."""

import typer

from loraplex.client.answers import Engine, Ready
from loraplex.connection import AsJson, Key, Url, connect
from loraplex.output import print_json, print_line, print_table


def status(url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Show whether the gateway and its engines are ready. Exit code 1 if not."""
    with connect(url, key) as gateway:
        ready = gateway.ready()
        engines = gateway.engines()
    if as_json:
        print_json({**ready, "engines": engines})
    else:
        _print(ready, engines)
    if ready["status"] != "ready":
        raise typer.Exit(1)


def _print(ready: Ready, engines: list[Engine]) -> None:
    reason = ready.get("reason")
    print_line("The gateway is ready." if not reason else f"The gateway is not ready: {reason}")
    print_table(
        ["ENGINE", "STATE", "IN FLIGHT", "ADAPTERS LOADED", "URL"],
        [
            (
                engine["id"],
                f"{engine['state']}: {engine['reason']}" if engine["reason"] else engine["state"],
                engine["in_flight"],
                len(engine["resident"]),
                engine["url"],
            )
            for engine in engines
        ],
        empty="No engines.",
    )
