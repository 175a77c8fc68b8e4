"""`loraplex adapters push`: a folder, or what lies at a source, becomes a new version."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from loraplex.client.answers import Metadata, Version
from loraplex.client.clients import Client
from loraplex.client.folder import TEMPLATE, check_metadata, metadata_of, read_folder
from loraplex.connection import AsJson, Key, Url, connect
from loraplex.errors import LoraplexError, UsageError
from loraplex.files import read_fields, read_text
from loraplex.output import note, print_json, print_line, transfer_progress, waiting, warn
from loraplex.refs import AdapterName, Reason, Ref, adapter_ref

_NO_TEMPLATE = "none"
_SOURCES = ("s3", "hf")


def push(
    name: AdapterName,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A folder that PEFT saved; or, with the admin key, s3://BUCKET/PREFIX or "
            "hf://OWNER/REPO[@REVISION], which the gateway fetches.",
        ),
    ],
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
    lineage: Annotated[
        Path | None,
        typer.Option(
            "--lineage",
            metavar="FILE",
            help="Base, data set, recipe, parent: JSON or YAML; else lineage in "
            "PATH/metadata.json.",
        ),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            "--evaluation", metavar="FILE", help="Verdict and report of an evaluation already made."
        ),
    ] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Make it live at once, if its evaluation passed.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --promote: without a passed evaluation too.")
    ] = False,
    reason: Reason = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Push a folder, or what lies at a source, as a new version of an adapter."""
    ref = adapter_ref(name)
    if force and not promote:
        raise UsageError("--force goes with --promote: a push alone needs no force")
    said = _read_files(profile=profile, lineage=lineage, evaluation=evaluation)
    if reason is not None:
        said["reason"] = reason
    if is_source(path):
        said = _with_template(said, chat_template)
        with connect(url, key) as gateway:
            with waiting(f"the gateway fetches {path}"):
                pushed = gateway.push(ref.tenant, ref.adapter, path, metadata=said)
            if promote:
                pushed = _promote_pushed(gateway, ref, pushed, force=force, reason=reason)
    else:
        folder = _local(path)
        said = _with_template(cast(Metadata, {**metadata_of(folder), **said}), chat_template)
        upload = read_folder(folder, said)
        with connect(url, key) as gateway:
            with transfer_progress("uploading", upload.file_bytes) as sent:
                pushed = gateway.push(ref.tenant, ref.adapter, upload.parts, sent=sent)
            _note_template(folder, said, asked=chat_template is not None)
            if promote:
                pushed = _promote_pushed(gateway, ref, pushed, force=force, reason=reason)
    _show(ref, pushed, as_json)


def is_source(path: str) -> bool:
    """Whether the gateway fetches it. Raises UsageError for an address that nothing fetches."""
    scheme, separator, _ = path.partition("://")
    if separator and scheme not in _SOURCES:
        raise UsageError(f"PATH: {scheme}:// is not fetched; give a folder, s3://... or hf://...")
    return bool(separator)


def _local(path: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"PATH: {folder} {kind}; give the folder that holds adapter_config.json")
    return folder


def _read_files(**files: Path | None) -> Metadata:
    """Each option's file, which may hold its fields bare or under their name."""
    names = {"profile": "serving_profile"}
    said: dict[str, Any] = {}
    for option, file in files.items():
        if file is not None:
            field = names.get(option, option)
            said[field] = read_fields(file, field)
            check_metadata(cast(Metadata, {field: said[field]}), str(file))
    return cast(Metadata, said)


def _with_template(said: Metadata, choice: str | None) -> Metadata:
    """choice: a file's path, `none`, or None where the person said nothing."""
    if choice is None:
        return said
    profile = {
        name: value
        for name, value in said.get("serving_profile", {}).items()
        if name != "chat_template"
    }
    if choice != _NO_TEMPLATE:
        profile["chat_template"] = read_text(Path(choice))
    return {**said, "serving_profile": profile}


def _note_template(folder: Path, said: Metadata, *, asked: bool) -> None:
    own = folder / TEMPLATE
    if asked or said.get("serving_profile", {}).get("chat_template") or not own.is_file():
        return
    note(
        f"{TEMPLATE} was not sent: the base model's template is used. If the adapter was trained "
        f"with another, push again with --chat-template {own} "
        f"(--chat-template {_NO_TEMPLATE} ends this note)."
    )


def _promote_pushed(
    gateway: Client, ref: Ref, pushed: Version, *, force: bool, reason: str | None
) -> Version:
    number = pushed["version"]
    try:
        gateway.promote(ref.tenant, ref.adapter, number, force=force, reason=reason)
    except LoraplexError as error:
        error.message = f"{ref}@{number} was pushed but not promoted: {error.message}"
        raise
    return gateway.version(ref.tenant, ref.adapter, number)


def _show(ref: Ref, pushed: Version, as_json: bool) -> None:
    for text in pushed["warnings"]:
        warn(text)
    if as_json:
        print_json(pushed)
        return
    label = f"{ref}@{pushed['version']}"
    print_line(f"Pushed {label} ({pushed['state']}), digest {pushed['digest'][:12]}.")
    if pushed["state"] == "candidate":
        print_line(f"Next: loraplex adapters evaluate {label} --passed --report FILE")
        print_line(f"  or: loraplex adapters promote {label} --force --reason WHY")
    elif pushed["state"] == "passed":
        print_line(f"Make it live: loraplex adapters promote {label}")
