"""`loraplex tenants`: who is served."""

from typing import Annotated

import typer

from loraplex.connection import AsJson, Key, Url, connect
from loraplex.errors import CommandError
from loraplex.output import confirm, print_json, print_line, print_table, when

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and hyphens.")
]


@app.command()
def create(name: Name, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Create a tenant."""
    with connect(url, key) as gateway:
        tenant = gateway.create_tenant(name)
    if as_json:
        print_json(tenant)
    else:
        print_line(f"Created tenant {name}. Next: loraplex keys create {name}")


@app.command("list")
def list_(url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """List the tenants."""
    with connect(url, key) as gateway:
        tenants = gateway.tenants()
    if as_json:
        print_json({"data": tenants})
        return
    print_table(
        ["TENANT", "MAY CALL BASE", "CREATED (UTC)"],
        [
            (tenant["name"], tenant["policy"].get("allow_base"), when(tenant["created_at"]))
            for tenant in tenants
        ],
        empty="No tenants yet. Make one: loraplex tenants create NAME",
    )


@app.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Delete a tenant with its keys and adapters."""
    if not confirm(f"Delete tenant {name} with all its keys and adapters?", assume_yes=yes):
        raise CommandError("nothing was deleted")
    with connect(url, key) as gateway:
        gateway.delete_tenant(name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        print_line(f"Deleted tenant {name}.")
