"""`loraplex audit`: every change of the registry, with who made it and why."""

from typing import Annotated

import typer

from loraplex.client.answers import AuditEntry
from loraplex.connection import AsJson, Key, Url, connect
from loraplex.output import note, print_json, print_table, when


def audit(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 50,
    before: Annotated[
        int | None,
        typer.Option("--before", metavar="ID", min=1, help="Only entries older than this one."),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show who changed what, newest first. Details are in --json."""
    with connect(url, key) as gateway:
        entries = gateway.audit(limit=limit, before=before)
    if as_json:
        print_json({"data": entries})
        return
    print_table(
        ["ID", "AT (UTC)", "BY", "ACTION", "TARGET: REASON"],
        [
            (
                entry["id"],
                when(entry["at"]),
                entry["actor"],
                entry["action"],
                _target(entry),
            )
            for entry in entries
        ],
        empty="Nothing was changed yet.",
        right="ID",
    )
    if len(entries) == limit:
        note(f"Older ones: loraplex audit --before {entries[-1]['id']}")


def _target(entry: AuditEntry) -> str:
    tenant, target = entry["tenant"], entry["target"]
    name = target if tenant in (None, target) else f"{tenant}/{target}"
    reason = entry["detail"].get("reason")
    return f"{name}: {reason}" if reason else name
