"""`loraplex adapters`: versions, what is thought of them, and which of them is live."""

from pathlib import Path
from typing import Annotated

import typer

from loraplex import adapter_pull, adapter_push, adapter_show
from loraplex.client.answers import Adapter, VersionRecord
from loraplex.connection import AsJson, Key, Url, connect
from loraplex.errors import UsageError
from loraplex.files import read_fields
from loraplex.output import print_json, print_line, print_table, waiting, when
from loraplex.refs import (
    AdapterName,
    IfMatch,
    Reason,
    Ref,
    VersionName,
    adapter_ref,
    version_ref,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

app.command()(adapter_push.push)
app.command()(adapter_pull.pull)


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Argument(metavar="[TENANT]", help="Else all.")] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List adapters, of one tenant or of all (with the admin key)."""
    if tenant and "/" in tenant:
        raise UsageError(f"TENANT: for one adapter's versions, loraplex adapters show {tenant}")
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


def _list_row(adapter: Adapter) -> tuple[object, ...]:
    newest = max((version["created_at"] for version in adapter["versions"]), default="")
    live = None if adapter["live"] is None else f"@{adapter['live']}"
    label = f"{adapter['tenant']}/{adapter['adapter']}"
    return label, live, len(adapter["versions"]), when(newest)


app.command()(adapter_show.show)
app.command()(adapter_show.card)
app.command()(adapter_show.diff)


@app.command()
def evaluate(
    name: VersionName,
    passed: Annotated[
        bool | None, typer.Option("--passed/--rejected", help="The verdict; one must be given.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Scores and gates, JSON or YAML."),
    ] = None,
    reason: Reason = None,
    if_match: IfMatch = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Record the verdict of an evaluation. It takes the place of an earlier one."""
    ref, number = version_ref(name)
    if passed is None:
        raise UsageError("which verdict? Give --passed or --rejected")
    found = {} if report is None else read_fields(report)
    with connect(url, key) as gateway:
        version = gateway.evaluate(
            ref.tenant,
            ref.adapter,
            number,
            "passed" if passed else "rejected",
            report=found,
            reason=reason,
            if_match=if_match,
        )
    if as_json:
        print_json(version)
        return
    print_line(f"Recorded: {ref} {version['verdict']}. It is {version['state']}.")
    if version["state"] == "passed":
        print_line(f"Make it live: loraplex adapters promote {ref}")


@app.command()
def prove(name: VersionName, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Have an engine compare a version's answers with the base model's."""
    ref, number = version_ref(name)
    with connect(url, key) as gateway, waiting(f"an engine compares {ref} with the base"):
        record = gateway.prove(ref.tenant, ref.adapter, number)
    if as_json:
        print_json(record)
    else:
        _show_proof(ref, record)


def _show_proof(ref: Ref, record: VersionRecord) -> None:
    figures = record["proof_figures"]
    if figures is None:
        print_line(f"{ref} is {record['proof']}.")
        return
    print_line(f"{ref} is {record['proof']}.")
    print_line(
        f"It is {figures['difference']:.3g} nats from the base, "
        f"the base {figures['noise']:.3g} from itself ({figures['tokens']} tokens)."
    )
    if figures["reason"]:
        print_line(figures["reason"])


@app.command()
def promote(
    name: VersionName,
    reason: Reason = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Without a passed evaluation, and without an engine to ask; kept."
        ),
    ] = False,
    if_match: IfMatch = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the live one. It needs a passed evaluation, or --force."""
    ref, number = version_ref(name)
    with connect(url, key) as gateway, waiting(f"an engine loads {ref}"):
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
    ref = adapter_ref(name)
    with connect(url, key) as gateway:
        moved = gateway.rollback(ref.tenant, ref.adapter, to=to, reason=reason, if_match=if_match)
    _show_moved(moved, as_json)


def _show_moved(moved: Adapter, as_json: bool) -> None:
    if as_json:
        print_json(moved)
        return
    label = f"{moved['tenant']}/{moved['adapter']}@{moved['live']}"
    print_line(f"{label} is live (revision {moved['revision']}).")


@app.command()
def history(name: AdapterName, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Show what happened to an adapter, newest first: who, what, and why."""
    ref = adapter_ref(name)
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
def delete(
    name: VersionName,
    reason: Reason = None,
    if_match: IfMatch = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Delete a version that is not live. Its number is never used again."""
    ref, number = version_ref(name)
    with connect(url, key) as gateway:
        gateway.delete_version(ref.tenant, ref.adapter, number, reason=reason, if_match=if_match)
    if as_json:
        print_json({"version": number, "deleted": True})
    else:
        print_line(f"Deleted {ref}.")
