"""`loraplex adapters show`, `card` and `diff`: what is kept of versions."""

import re
from typing import Annotated, Any

import typer

from loraplex.adapter_fields import Difference, differences, flat_fields
from loraplex.client.answers import Version, VersionRecord
from loraplex.connection import AsJson, Key, Url, connect
from loraplex.output import print_fields, print_json, print_table, print_text, size, when
from loraplex.refs import AnyName, Ref, VersionName, parse_ref, version_ref

_CELL_CHARS = 300
_SHA256 = re.compile(r"[0-9a-f]{64}")


def show(name: AnyName, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Show an adapter's versions, or all that is kept of one."""
    ref = parse_ref(name)
    with connect(url, key) as gateway:
        if ref.version is not None:
            _show_version(ref, gateway.version(ref.tenant, ref.adapter, ref.version), as_json)
        else:
            _show_versions(ref, gateway.versions(ref.tenant, ref.adapter), as_json)


def card(name: VersionName, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Print a version's model card, in Markdown."""
    ref, number = version_ref(name)
    with connect(url, key) as gateway:
        text = gateway.card(ref.tenant, ref.adapter, number)
    if as_json:
        print_json({"card": text})
    else:
        print_text(text)


def diff(
    first: VersionName,
    second: Annotated[str, typer.Argument(metavar="TENANT/ADAPTER@M")],
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two versions: files, lineage, profile, figures, state."""
    (one, number), (other, second_number) = version_ref(first), version_ref(second)
    with connect(url, key) as gateway:
        found = differences(
            gateway.version(one.tenant, one.adapter, number),
            gateway.version(other.tenant, other.adapter, second_number),
        )
    if as_json:
        rows = [{"field": each.field, "first": each.first, "second": each.second} for each in found]
        print_json({"first": str(one), "second": str(other), "differences": rows})
        return
    print_table(
        ["FIELD", str(one), str(other)],
        [_diff_row(each) for each in found],
        empty=f"{one} and {other} do not differ.",
    )


def _diff_row(each: Difference) -> tuple[str, object, object]:
    return each.field, _short(each.field, each.first), _short(each.field, each.second)


def _short(field: str, value: Any) -> object:
    """As _shown; of a digest, enough to tell it from others."""
    if isinstance(value, str) and _SHA256.fullmatch(value):
        return value[:12]
    return _shown(field, value)


def _show_version(ref: Ref, record: VersionRecord, as_json: bool) -> None:
    if as_json:
        print_json(record)
        return
    fields = flat_fields(record)
    fields["version"] = str(ref)
    warnings = fields.pop("warnings", [])
    rows = [(name, _shown(name, value)) for name, value in fields.items()]
    print_fields([*rows, *(("warning", text) for text in warnings)])


def _shown(field: str, value: Any) -> object:
    """A value as a person reads it; a long one, as a template or a recipe, is cut."""
    if value is None:
        return None
    if field == "size_bytes":
        return size(value)
    if field == "created_at":
        return f"{when(value)} UTC"
    if isinstance(value, str) and len(value) > _CELL_CHARS:
        return f"{value[:_CELL_CHARS]}... ({len(value)} characters; --json has all)"
    return value


def _show_versions(ref: Ref, versions: list[Version], as_json: bool) -> None:
    if as_json:
        print_json({"data": versions})
        return
    print_table(
        ["VERSION", "STATE", "PROOF", "SIZE", "WARN", "DIGEST", "CREATED (UTC)"],
        [
            (
                f"@{version['version']}",
                version["state"],
                version["proof"],
                size(version["size_bytes"]),
                len(version["warnings"]),
                version["digest"][:12],
                when(version["created_at"]),
            )
            for version in versions
        ],
        empty=f"{ref} has no versions. Push one: loraplex adapters push {ref} PATH",
        right="SIZE WARN",
    )
