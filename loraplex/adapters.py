"""`loraplex adapters`: versions and which of them is live."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from loraplex.adapter_folder import read_folder
from loraplex.adapter_pull import pull_folder
from loraplex.admin_client import AdapterBody, AdminClient, VersionBody
from loraplex.connection import AsJson, Key, Url, connect
from loraplex.errors import CommandError, UsageError
from loraplex.output import (
    note,
    print_fields,
    print_json,
    print_line,
    print_table,
    size,
    transfer_progress,
    warn,
    when,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@dataclass(frozen=True)
class Ref:
    """`TENANT/ADAPTER` or `TENANT/ADAPTER@N`."""

    tenant: str
    adapter: str
    version: int | None = None

    def __str__(self) -> str:
        name = f"{self.tenant}/{self.adapter}"
        return name if self.version is None else f"{name}@{self.version}"


def parse_ref(text: str) -> Ref:
    """The adapter, and the version if one is named."""
    from adapters_registry.types import is_name

    name, at, number = text.partition("@")
    tenant, _, adapter = name.partition("/")
    numbered = number.isascii() and number.isdigit() and int(number) > 0
    if not is_name(tenant) or not is_name(adapter) or (at and not numbered):
        raise UsageError(
            f"{text!r} names no adapter; write TENANT/ADAPTER or TENANT/ADAPTER@N, "
            "in lower-case letters, digits and hyphens, like acme/support@3"
        )
    return Ref(tenant, adapter, int(number) if at else None)


def _adapter_ref(text: str) -> Ref:
    ref = parse_ref(text)
    if ref.version is not None:
        raise UsageError(f"{text!r} names one version; here it is {ref.tenant}/{ref.adapter}")
    return ref


def _version_ref(text: str) -> tuple[Ref, int]:
    ref = parse_ref(text)
    if ref.version is None:
        raise UsageError(f"which version of {text}? Write {text}@N; `adapters show {text}` lists N")
    return ref, ref.version


AdapterName = Annotated[str, typer.Argument(metavar="TENANT/ADAPTER")]
VersionName = Annotated[str, typer.Argument(metavar="TENANT/ADAPTER@N")]
Reason = Annotated[str | None, typer.Option("--reason", help="Kept in the history.")]
IfMatch = Annotated[
    int | None,
    typer.Option("--if-match", metavar="REVISION", help="Only if the adapter is at this revision."),
]


@app.command()
def push(
    name: AdapterName,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder that PEFT saved.")],
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile",
            metavar="FILE",
            help="Serving profile, JSON or YAML; else serving_profile in PATH/metadata.json.",
        ),
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(
            "--chat-template", metavar="FILE|none", help="The adapter's own template, or none."
        ),
    ] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Make it live at once.")] = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Push a folder as a new version of an adapter."""
    ref = _adapter_ref(name)
    upload = read_folder(_local(path), profile_file=profile, chat_template=chat_template)
    with connect(url, key) as gateway:
        with transfer_progress("uploading", upload.file_bytes) as sent:
            pushed = gateway.push(ref.tenant, ref.adapter, upload.parts, sent=sent)
        for text in upload.notes:
            note(text)
        if promote:
            pushed = _promote_pushed(gateway, ref, pushed)
    _show_pushed(ref, pushed, as_json)


def _local(path: str) -> Path:
    scheme, separator, _ = path.partition("://")
    if separator:
        raise UsageError(f"PATH: {scheme}:// is not read by this release; give a local folder")
    return Path(path).expanduser()


def _promote_pushed(gateway: AdminClient, ref: Ref, pushed: VersionBody) -> VersionBody:
    number = pushed["version"]
    try:
        gateway.promote(ref.tenant, ref.adapter, number)
    except CommandError as error:
        error.message = f"{ref}@{number} was pushed but not promoted: {error.message}"
        raise
    return gateway.version(ref.tenant, ref.adapter, number)


def _show_pushed(ref: Ref, pushed: VersionBody, as_json: bool) -> None:
    for text in pushed.get("warnings", []):
        warn(text)
    if as_json:
        print_json(pushed)
        return
    label = f"{ref}@{pushed['version']}"
    print_line(f"Pushed {label} ({pushed['state']}), digest {pushed['digest'][:12]}.")
    if pushed["state"] != "live":
        print_line(f"Make it live: loraplex adapters promote {label}")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="TENANT/ADAPTER[@N]")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="A new folder; else ./ADAPTER-N.")
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Pull a version, by default the live one, into a folder that can be pushed again."""
    ref = parse_ref(name)
    with connect(url, key) as gateway:
        version = _pulled_version(gateway, ref)
        folder = out or Path(f"{ref.adapter}-{version['version']}")
        with transfer_progress("receiving", version["size_bytes"]) as received:
            pull_folder(gateway, ref.tenant, ref.adapter, version, folder, received=received)
    if as_json:
        print_json({**version, "path": str(folder)})
        return
    label = f"{ref.tenant}/{ref.adapter}@{version['version']}"
    print_line(f"Pulled {label}, digest {version['digest'][:12]}, into {folder}.")


def _pulled_version(gateway: AdminClient, ref: Ref) -> VersionBody:
    if ref.version is not None:
        return gateway.version(ref.tenant, ref.adapter, ref.version)
    for version in gateway.versions(ref.tenant, ref.adapter):
        if version["state"] == "live":
            return version
    raise CommandError(f"{ref} has no live version; write {ref}@N: `adapters show {ref}` lists N")


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Argument(metavar="[TENANT]", help="Else all.")] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List adapters, of one tenant or of all (with the admin key)."""
    with connect(url, key) as gateway:
        tenants = [tenant] if tenant else [one["name"] for one in gateway.tenants()]
        found = [adapter for one in tenants for adapter in gateway.adapters(one)]
    if as_json:
        print_json({"data": found})
        return
    print_table(
        ["ADAPTER", "LIVE", "VERSIONS", "NEWEST (UTC)"],
        [_list_row(adapter) for adapter in found],
        empty="No adapters yet. Push one: loraplex adapters push TENANT/ADAPTER PATH",
        right="LIVE VERSIONS",
    )


def _list_row(adapter: AdapterBody) -> tuple[object, ...]:
    newest = max((version["created_at"] for version in adapter["versions"]), default="")
    live = None if adapter["live"] is None else f"@{adapter['live']}"
    label = f"{adapter['tenant']}/{adapter['adapter']}"
    return label, live, len(adapter["versions"]), when(newest)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="TENANT/ADAPTER[@N]")],
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show an adapter's versions, or one version in full."""
    ref = parse_ref(name)
    with connect(url, key) as gateway:
        if ref.version is not None:
            _show_version(ref, gateway.version(ref.tenant, ref.adapter, ref.version), as_json)
        else:
            _show_versions(ref, gateway.versions(ref.tenant, ref.adapter), as_json)


def _show_version(ref: Ref, version: VersionBody, as_json: bool) -> None:
    if as_json:
        print_json(version)
        return
    fields: list[tuple[str, object]] = [
        ("version", ref),
        ("state", version["state"]),
        ("digest", version["digest"]),
        ("rank", version["rank"]),
        ("size", size(version["size_bytes"])),
        ("created (UTC)", when(version["created_at"])),
    ]
    fields += [(f"profile.{field}", value) for field, value in version["profile"].items() if value]
    fields += [("warning", text) for text in version["warnings"]]
    print_fields(fields)


def _show_versions(ref: Ref, versions: list[VersionBody], as_json: bool) -> None:
    if as_json:
        print_json({"data": versions})
        return
    print_table(
        ["VERSION", "STATE", "RANK", "SIZE", "WARNINGS", "DIGEST", "CREATED (UTC)"],
        [
            (
                f"@{version['version']}",
                version["state"],
                version["rank"],
                size(version["size_bytes"]),
                len(version["warnings"]),
                version["digest"][:12],
                when(version["created_at"]),
            )
            for version in versions
        ],
        empty=f"{ref} has no versions. Push one: loraplex adapters push {ref} PATH",
        right="RANK SIZE WARNINGS",
    )


@app.command()
def promote(
    name: VersionName,
    reason: Reason = None,
    force: Annotated[bool, typer.Option("--force", help="Past what the gate says.")] = False,
    if_match: IfMatch = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the live one."""
    ref, number = _version_ref(name)
    with connect(url, key) as gateway:
        moved = gateway.promote(
            ref.tenant, ref.adapter, number, reason=reason, force=force, if_match=if_match
        )
    _show_moved(moved, as_json)


@app.command()
def rollback(
    name: AdapterName,
    to: Annotated[
        int | None, typer.Option("--to", metavar="N", min=1, help="Else the one live before.")
    ] = None,
    reason: Reason = None,
    if_match: IfMatch = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Go back to the version that was live before, or to version N."""
    ref = _adapter_ref(name)
    with connect(url, key) as gateway:
        moved = gateway.rollback(ref.tenant, ref.adapter, to=to, reason=reason, if_match=if_match)
    _show_moved(moved, as_json)


def _show_moved(moved: AdapterBody, as_json: bool) -> None:
    if as_json:
        print_json(moved)
        return
    label = f"{moved['tenant']}/{moved['adapter']}@{moved['live']}"
    print_line(f"{label} is live (revision {moved['revision']}).")


@app.command()
def history(name: AdapterName, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Show what happened to an adapter, newest first."""
    ref = _adapter_ref(name)
    with connect(url, key) as gateway:
        entries = gateway.history(ref.tenant, ref.adapter)
    if as_json:
        print_json({"data": entries})
        return
    print_table(
        ["AT (UTC)", "ACTION", "FROM", "TO", "BY", "REASON"],
        [
            (
                when(entry["at"]),
                f"{entry['action']} (forced)" if entry["forced"] else entry["action"],
                entry["from"],
                entry["to"],
                entry["actor"],
                entry["reason"],
            )
            for entry in entries
        ],
        empty=f"Nothing has happened to {ref} yet.",
        right="FROM TO",
    )


@app.command()
def delete(name: VersionName, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Delete a version that is not live."""
    ref, number = _version_ref(name)
    with connect(url, key) as gateway:
        gateway.delete_version(ref.tenant, ref.adapter, number)
    if as_json:
        print_json({"version": number, "deleted": True})
    else:
        print_line(f"Deleted {ref}.")
