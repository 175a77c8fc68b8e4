"""`loraplex adapters pull`: a version's files into a folder that can be pushed again."""

from pathlib import Path
from typing import Annotated

import typer

from loraplex.client.answers import Version
from loraplex.client.clients import Client
from loraplex.client.download import check_free
from loraplex.client.errors import UnusableFolder
from loraplex.connection import AsJson, Key, Url, connect
from loraplex.errors import CommandError, UsageError
from loraplex.output import print_json, print_line, transfer_progress
from loraplex.refs import AnyName, Ref, parse_ref


def pull(
    name: AnyName,
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
        version = wanted_version(gateway, ref)
        number = version["version"]
        folder = out or Path(f"{ref.adapter}-{number}")
        try:
            check_free(folder)
        except UnusableFolder as error:
            raise UsageError(f"--out: {error.message}") from None
        try:
            with transfer_progress("receiving", version["size_bytes"]) as received:
                record = gateway.download(
                    ref.tenant, ref.adapter, number, folder, received=received
                )
        except OSError as error:
            raise CommandError(f"cannot write {folder}: {error.strerror}") from None
    if as_json:
        print_json({**record, "path": str(folder)})
        return
    label = f"{ref.tenant}/{ref.adapter}@{number}"
    print_line(f"Pulled {label}, digest {version['digest'][:12]}, into {folder}.")


def wanted_version(gateway: Client, ref: Ref) -> Version:
    """The version that is named, else the live one."""
    if ref.version is not None:
        return gateway.version(ref.tenant, ref.adapter, ref.version)
    for version in gateway.versions(ref.tenant, ref.adapter):
        if version["state"] == "live":
            return version
    raise CommandError(f"{ref} has no live version; write {ref}@N: `adapters show {ref}` lists N")
