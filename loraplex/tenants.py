"""`loraplex tenants`: who is served, what they may do, and how they come and go."""

from pathlib import Path
from typing import Annotated

import typer

from loraplex.client.answers import DeletedTenant, Tenant
from loraplex.client.clients import Client
from loraplex.connection import AsJson, Key, Url, connect
from loraplex.errors import CommandError, UsageError
from loraplex.files import written_whole
from loraplex.output import (
    confirm,
    print_fields,
    print_json,
    print_line,
    print_table,
    size,
    transfer_progress,
    when,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and hyphens.")
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept in the audit.")]


@app.command()
def create(
    name: Name, reason: Reason = None, url: Url = None, key: Key = None, as_json: AsJson = False
) -> None:
    """Create a tenant."""
    with connect(url, key) as gateway:
        tenant = gateway.create_tenant(name, reason=reason)
    if as_json:
        print_json(tenant)
    else:
        print_line(f"Created tenant {name}. Next: loraplex keys create {name}")


@app.command("list")
def list_(
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Those that can still be restored.")
    ] = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List the tenants, or the deleted ones that can be restored."""
    with connect(url, key) as gateway:
        if deleted:
            _show_deleted(gateway.deleted_tenants(), as_json)
        else:
            _show_tenants(gateway.tenants(), as_json)


def _show_tenants(tenants: list[Tenant], as_json: bool) -> None:
    if as_json:
        print_json({"data": tenants})
        return
    print_table(
        ["TENANT", "MAY CALL BASE", "NEEDS PASS", "CREATED (UTC)"],
        [
            (
                tenant["name"],
                tenant["policy"]["allow_base"],
                tenant["policy"]["require_pass"],
                when(tenant["created_at"]),
            )
            for tenant in tenants
        ],
        empty="No tenants yet. Make one: loraplex tenants create NAME",
    )


def _show_deleted(tenants: list[DeletedTenant], as_json: bool) -> None:
    if as_json:
        print_json({"data": tenants})
        return
    print_table(
        ["TENANT", "DELETED (UTC)", "RESTORABLE UNTIL (UTC)"],
        [
            (tenant["name"], when(tenant["deleted_at"]), when(tenant["purge_at"]))
            for tenant in tenants
        ],
        empty="No deleted tenant can be restored.",
    )


@app.command()
def policy(
    name: Name,
    allow_base: Annotated[
        bool | None,
        typer.Option("--allow-base/--no-allow-base", help="Whether it may call the base model."),
    ] = None,
    require_pass: Annotated[
        bool | None,
        typer.Option(
            "--require-pass/--no-require-pass",
            help="Whether only a version with a passed evaluation, recorded with the admin key, "
            "can go live.",
        ),
    ] = None,
    reason: Reason = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Change what a tenant may do; without options, show it."""
    with connect(url, key) as gateway:
        if allow_base is None and require_pass is None:
            tenant = gateway.tenant(name)
        else:
            tenant = gateway.set_policy(
                name, allow_base=allow_base, require_pass=require_pass, reason=reason
            )
    if as_json:
        print_json(tenant)
        return
    found = tenant["policy"]
    print_fields(
        [
            ("tenant", name),
            ("may call the base model", found["allow_base"]),
            ("needs a pass to promote", found["require_pass"]),
        ]
    )


@app.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Reason = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Delete a tenant: its keys at once and for good, its adapters after a time to undo it."""
    if not confirm(f"Delete tenant {name}? Its keys end at once, for good.", assume_yes=yes):
        raise CommandError("nothing was deleted")
    with connect(url, key) as gateway:
        gateway.delete_tenant(name, reason=reason)
        until = _restorable_until(gateway, name)
    if as_json:
        print_json({"name": name, "deleted": True, "purge_at": until})
        return
    print_line(f"Deleted tenant {name}. Its keys are refused from now on.")
    if until is not None:
        print_line(f"Until {when(until)} UTC it can come back: loraplex tenants restore {name}")


def _restorable_until(gateway: Client, name: str) -> str | None:
    """Of the latest deletion of that name."""
    for tenant in gateway.deleted_tenants():
        if tenant["name"] == name:
            return tenant["purge_at"]
    return None


@app.command()
def restore(
    name: Name, reason: Reason = None, url: Url = None, key: Key = None, as_json: AsJson = False
) -> None:
    """Undo a tenant's deletion. Its keys stay dead."""
    with connect(url, key) as gateway:
        tenant = gateway.restore_tenant(name, reason=reason)
    if as_json:
        print_json(tenant)
        return
    print_line(f"Restored tenant {name} with its adapters, without its keys.")
    print_line(f"Next: loraplex keys create {name}")


@app.command("export")
def export_(
    name: Name,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A new file; else ./NAME.tar.")
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Write a tenant with its adapters, without its keys, to a tar of plain files."""
    file = out or Path(f"{_checked(name)}.tar")
    with (
        connect(url, key) as gateway,
        written_whole(file) as write,
        transfer_progress("receiving", None) as received,
    ):

        def take(block: bytes) -> None:
            write(block)
            received(len(block))

        gateway.export_tenant(name, take=take, expect=received.expect)
    if as_json:
        print_json({"name": name, "path": str(file), "size_bytes": file.stat().st_size})
    else:
        print_line(f"Exported tenant {name} to {file} ({size(file.stat().st_size)}).")


def _checked(name: str) -> str:
    """A name that makes a file's name, not a path. Raises UsageError."""
    from adapters_registry.types import is_name

    if not is_name(name):
        raise UsageError(
            f"NAME: {name!r} names no tenant; write lower-case letters, digits and hyphens"
        )
    return name


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As `tenants export` wrote it.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Under another name than its own.")
    ] = None,
    reason: Reason = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make a tenant from an export of this or another installation. It has no keys yet."""
    if not file.is_file():
        raise UsageError(f"FILE: {file} is no file; give what `tenants export` wrote")
    try:
        with (
            connect(url, key) as gateway,
            transfer_progress("uploading", file.stat().st_size) as sent,
        ):
            tenant = gateway.import_tenant(file, name=name, reason=reason, sent=sent)
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}") from None
    if as_json:
        print_json(tenant)
        return
    print_line(f"Imported tenant {tenant['name']}. Next: loraplex keys create {tenant['name']}")
