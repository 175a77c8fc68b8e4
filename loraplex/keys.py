"""`loraplex keys`: what a tenant's programs show at the door."""

from enum import StrEnum
from typing import Annotated

import typer

from loraplex.connection import AsJson, Key, Url, connect
from loraplex.output import note, print_json, print_line, print_table, when

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

TenantName = Annotated[str, typer.Argument(metavar="TENANT", help="Whose keys.")]


class ScopeName(StrEnum):
    """What a key may do."""

    INFERENCE = "inference"
    MANAGE = "manage"


@app.command()
def create(
    tenant: TenantName,
    name: Annotated[str, typer.Option("--name", help="What the key is for.")] = "",
    scope: Annotated[
        list[ScopeName] | None,
        typer.Option(
            "--scope",
            help="inference calls models, manage changes the tenant's own adapters and keys; "
            "may be given twice. Default: inference.",
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Create a key. It is shown this one time."""
    with connect(url, key) as gateway:
        made = gateway.create_key(tenant, name=name, scopes=[word.value for word in scope or []])
    if as_json:
        print_json(made)
        return
    print_line(made["key"])
    note(
        f"This is key {made['id']} of {tenant} ({', '.join(made['scopes'])}). "
        "It is not shown again: store it now."
    )


@app.command("list")
def list_(tenant: TenantName, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """List a tenant's keys, without their secrets."""
    with connect(url, key) as gateway:
        found = gateway.keys(tenant)
    if as_json:
        print_json({"data": found})
        return
    print_table(
        ["ID", "NAME", "SCOPES", "CREATED (UTC)"],
        [(one["id"], one["name"], one["scopes"], when(one["created_at"])) for one in found],
        empty=f"No keys yet. Make one: loraplex keys create {tenant}",
    )


@app.command()
def revoke(
    tenant: TenantName,
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="As `keys list` shows it.")],
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key for good."""
    with connect(url, key) as gateway:
        gateway.revoke_key(tenant, key_id)
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        print_line(f"Revoked key {key_id} of {tenant}.")
