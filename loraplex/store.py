"""`loraplex gc` and `loraplex verify`: the care of the stored files."""

from typing import Annotated

import typer

from loraplex.client.answers import Collection, Verification
from loraplex.connection import AsJson, Key, Url, connect
from loraplex.moments import parse_length
from loraplex.output import print_json, print_line, print_table, size, waiting


def gc(
    grace: Annotated[
        str | None,
        typer.Option(
            "--grace",
            metavar="TIME",
            help="Only what no version has used for so long: 0s, 12h, 7d. Calls that other "
            "gateways still answer need it. Default: the gateway's gc_grace_s.",
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Remove files that no version uses any more, and tenants deleted for good."""
    grace_s = None if grace is None else parse_length(grace, "--grace").total_seconds()
    with connect(url, key) as gateway, waiting("the gateway looks through the store"):
        done = gateway.gc(grace_s=grace_s)
    if as_json:
        print_json(done)
    else:
        _show_collection(done)


def _show_collection(done: Collection) -> None:
    removed = len(done["removed"])
    freed = size(done["freed_bytes"])
    print_line(f"Removed {removed} {_noun(removed)}, {freed}; kept {done['kept']}.")
    if done["purged_tenants"]:
        names = ", ".join(done["purged_tenants"])
        print_line(f"Deleted for good, with their versions: {names}.")


def verify(url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Read every stored file again and check it. Exit code 1 if one is damaged."""
    with connect(url, key) as gateway, waiting("the gateway reads every stored file"):
        found = gateway.verify()
    if as_json:
        print_json(found)
    else:
        _show_verification(found)
    if found["damaged"]:
        raise typer.Exit(1)


def _show_verification(found: Verification) -> None:
    checked, damaged = found["checked"], found["damaged"]
    print_line(f"Checked {checked} {_noun(checked)}: {len(damaged) or 'none'} damaged.")
    if damaged:
        print_table(
            ["VERSION", "DAMAGE", "DIGEST"],
            [(each["version"], each["damage"], each["digest"][:12]) for each in damaged],
            empty="",
        )


def _noun(count: int) -> str:
    return "artifact" if count == 1 else "artifacts"
