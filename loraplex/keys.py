"""`loraplex keys`: what a tenant's programs show at the door."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from loraplex.client.answers import MadeKey
from loraplex.connection import AsJson, Key, Url, connect
from loraplex.moments import parse_length, parse_moment
from loraplex.output import note, print_json, print_line, print_table, when

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

TenantName = Annotated[str, typer.Argument(metavar="TENANT", help="Whose keys.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="As `keys list` shows it.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept in the audit.")]
Expires = Annotated[
    str | None,
    typer.Option(
        "--expires",
        metavar="WHEN",
        help="From when it is refused: 30d, 2031-01-31, 2031-01-31T12:00Z. Default: never.",
    ),
]


class ScopeName(StrEnum):
    """What a key may do."""

    INFERENCE = "inference"
    MANAGE = "manage"


@app.command()
def create(
    tenant: TenantName,
    name: Annotated[str | None, typer.Option("--name", help="What the key is for.")] = None,
    scope: Annotated[
        list[ScopeName] | None,
        typer.Option(
            "--scope",
            help="inference calls models, manage changes the tenant's own adapters and keys; "
            "may be given twice. Default: inference.",
        ),
    ] = None,
    expires: Expires = None,
    reason: Reason = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Create a key. It is shown this one time."""
    expires_at = _moment(expires)
    with connect(url, key) as gateway:
        made = gateway.create_key(
            tenant,
            name=name or None,
            scopes=[word.value for word in scope or []],
            expires_at=expires_at,
            reason=reason,
        )
    _show_made(tenant, made, as_json)


@app.command("list")
def list_(tenant: TenantName, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """List a tenant's keys, without their secrets."""
    with connect(url, key) as gateway:
        found = gateway.keys(tenant)
    if as_json:
        print_json({"data": found})
        return
    print_table(
        ["ID", "NAME", "SCOPES", "EXPIRES (UTC)", "LAST USED (UTC)"],
        [
            (
                one["id"],
                one["name"],
                one["scopes"],
                when(one["expires_at"] or "never"),
                when(one["last_used_at"] or "not yet"),
            )
            for one in found
        ],
        empty=f"No keys yet. Make one: loraplex keys create {tenant}",
    )


@app.command()
def rotate(
    tenant: TenantName,
    key_id: KeyId,
    overlap: Annotated[
        str,
        typer.Option("--overlap", help="How long the old key goes on, at most 90d: 0s, 12h, 7d."),
    ] = "1h",
    expires: Expires = None,
    reason: Reason = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Create a key like an old one, which ends after the overlap."""
    overlap_s = int(parse_length(overlap, "--overlap").total_seconds())
    expires_at = _moment(expires)
    with connect(url, key) as gateway:
        made = gateway.rotate_key(
            tenant, key_id, overlap_s=overlap_s, expires_at=expires_at, reason=reason
        )
    _show_made(tenant, made, as_json)
    if not as_json:
        note(f"The old key, {key_id}, is refused {overlap} from now.")


@app.command()
def revoke(
    tenant: TenantName,
    key_id: KeyId,
    reason: Reason = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key for good, at once."""
    with connect(url, key) as gateway:
        gateway.revoke_key(tenant, key_id, reason=reason)
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        print_line(f"Revoked key {key_id} of {tenant}.")


def _show_made(tenant: str, made: MadeKey, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    print_line(made["key"])
    expires = made["expires_at"]
    until = "" if expires is None else f" until {when(expires)} UTC"
    note(f"This is key {made['id']} of {tenant} ({', '.join(made['scopes'])}){until}.")
    note("It is not shown again: store it now.")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else parse_moment(text, "--expires", datetime.now(UTC))
