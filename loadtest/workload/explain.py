"""What pydantic finds wrong with a workload, in words: the field, the fault and the fix."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from loadtest.workload.part import Part
from loadtest.workload.spec import Workload

_FIELD_FIRST = re.compile(r"[a-z][\w.\[\]]*: ")
_SHOWN_CHARACTERS = 60
_SECTION = {"model_type", "model_attributes_type", "dict_type"}
_GIVE = {
    "tuple_type": "give a list",
    "string_type": "give a text",
    "string_too_short": "give a name",
    "path_type": "give a path",
    "bool_type": "give true or false",
    "bool_parsing": "give true or false",
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "float_parsing": "give a number",
}
_PLAIN = {
    "missing": "is missing; add it",
    "too_short": "is empty; give at least one",
}


@dataclass(frozen=True, slots=True)
class _Place:
    """name: dotted. fields: those of the section it stands in. tags: the kinds it may be of."""

    name: str
    fields: list[str]
    tags: list[str]


def explain(error: ValidationError) -> list[str]:
    """A line a field that is wrong."""
    lines: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        if problem["type"] == "too_short" and problem["input"]:
            # A list whose entries are wrong counts as empty too.
            continue
        place = _find(problem["loc"])
        lines[place.name] = _line(problem, place)
    return list(lines.values())


def _line(problem: ErrorDetails, place: _Place) -> str:
    name, kind, context = place.name, problem["type"], problem.get("ctx", {})
    if kind == "value_error":
        message = str(context["error"])
        # Of a section: the message begins with the field in it.
        joint = "." if _FIELD_FIRST.match(message) else ": "
        return f"{name}{joint}{message}" if name else message
    if kind == "extra_forbidden":
        return f"{name}: no such field; {_suggestion(name, place.fields)}"
    if kind == "union_tag_invalid":
        close = _close(str(context["tag"]), place.tags)
        wanted = f"give one of {', '.join(place.tags)}{close}"
        return f"{name}.kind: `{context['tag']}` does not fit; {wanted}"
    if kind == "union_tag_not_found":
        return f"{name}.kind: is missing; give one of {', '.join(place.tags)}"
    if kind in _PLAIN:
        return f"{name}: {_PLAIN[kind]}"
    return f"{name}: {_shown(problem['input'], name)} does not fit; {_wanted(problem, place)}"


def _find(location: tuple[int | str, ...]) -> _Place:
    """The place that pydantic means; its location also holds the alternative it took of a union,
    which is no part of the name."""
    name = ""
    here: list[type[Part]] = []
    inner: list[type[Part]] = [Workload]
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        elif taken := [one for one in inner if _tag(one) == part]:
            inner = taken
        else:
            name += f".{part}" if name else part
            here, inner = inner, [found for one in inner for found in _sections_of(one, part)]
    fields = sorted({field for one in here for field in one.model_fields})
    return _Place(name, fields, [tag for tag in map(_tag, inner) if tag])


def _sections_of(section: type[Part], field: str) -> list[type[Part]]:
    """The sections that may stand in a field."""
    info = section.model_fields.get(field)
    return [] if info is None else list(_parts_in(info.annotation))


def _parts_in(annotation: Any) -> Iterator[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for inner in get_args(annotation):
        yield from _parts_in(inner)


def _tag(section: type[Part]) -> str | None:
    kind = section.model_fields.get("kind")
    return None if kind is None else str(kind.default)


def _wanted(problem: ErrorDetails, place: _Place) -> str:
    if problem["type"] in _SECTION:
        kinds = f", `kind` among them: {', '.join(place.tags)}" if place.tags else ""
        return f"give fields{kinds}"
    # pydantic's words, as `Input should be greater than 0`.
    return _GIVE.get(problem["type"]) or problem["msg"].replace("Input should", "it must")


def _shown(value: object, name: str) -> str:
    """The value, where it cannot be a key."""
    if isinstance(value, dict | list | tuple) or name.startswith("tenants"):
        return "what stands there"
    plain = value is None or isinstance(value, bool)
    text = json.dumps(value) if plain else str(value)
    return f"`{text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + '…'}`"


def _suggestion(name: str, fields: list[str]) -> str:
    wrong = name.rpartition(".")[2]
    close = _close(wrong, fields)
    return close.removeprefix("; ") or f"the fields here are {', '.join(fields)}"


def _close(value: str, names: list[str]) -> str:
    close = get_close_matches(value, names, n=1)
    return f"; did you mean {close[0]}?" if close else ""
