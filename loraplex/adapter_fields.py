"""A version's record as rows of names and values, and what differs between two; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loraplex.client.answers import VersionRecord

_PARTS = ("summary", "lineage", "profile", "evaluation", "proof_figures", "files")
_OWN = ("version", "created_at", "created_by")
"""Of each version alone: never the same, and no difference that anybody asks for."""


@dataclass(frozen=True)
class Difference:
    """A field of which two versions say different things; None where one says nothing."""

    field: str
    first: Any
    second: Any


def flat_fields(record: VersionRecord) -> dict[str, Any]:
    """The record's fields under dotted names, without empty ones; lists stay whole."""
    fields: Mapping[str, Any] = record
    parts = {name: fields.get(name) for name in _PARTS}
    return dict(_flat({**_plain(fields), **parts}, ""))


def differences(first: VersionRecord, second: VersionRecord) -> list[Difference]:
    """What two versions differ in, in the order of a record's fields."""
    one, other = flat_fields(first), flat_fields(second)
    order = {name: at for at, name in enumerate((*_plain({**first, **second}), *_PARTS))}
    names = sorted({**one, **other}, key=lambda name: order[name.partition(".")[0]])
    return [
        Difference(name, one.get(name), other.get(name))
        for name in names
        if name not in _OWN and one.get(name) != other.get(name)
    ]


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in _PARTS}


def _flat(fields: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value not in (None, [], ""):
            yield f"{prefix}{name}", value
