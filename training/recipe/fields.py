"""The fields of a recipe one by one: name, what may stand there, default, meaning."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from training.recipe.recipe import Recipe

_PLAIN = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    bool: "true or false",
}


@dataclass(frozen=True, slots=True)
class RecipeField:
    """One field that holds a value, or a section that may be left out."""

    name: str
    """Dotted, as `schedule.epochs`."""
    wanted: str
    """What may stand there, in words."""
    required: bool
    default: Any
    description: str
    section: type[BaseModel] | None
    """Of a section: its model."""
    nullable: bool
    """Whether it may be null: not there."""

    @property
    def key(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]


def fields_of(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[RecipeField]:
    """The model's own fields, in its order."""
    for attribute, info in model.model_fields.items():
        yield RecipeField(
            name=prefix + (info.alias or attribute),
            wanted=wanted(info),
            required=info.is_required(),
            default=None if info.is_required() else info.default,
            description=info.description or "",
            section=section_of(info.annotation),
            nullable=type(None) in _alternatives(info.annotation),
        )


def all_fields(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[RecipeField]:
    """Every field that holds a value, of sections within sections too."""
    for field in fields_of(model, prefix):
        if field.section is None:
            yield field
        else:
            yield from all_fields(field.section, f"{field.name}.")


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a field that is a section."""
    for kind in _alternatives(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def wanted(info: FieldInfo) -> str:
    """What a field takes, with its bounds."""
    kinds = [_in_words(kind) for kind in _alternatives(info.annotation) if kind is not type(None)]
    return " or ".join(kinds) + _bounds(info.metadata)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _in_words(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        names = [f"`{name}`" for name in inner]
        return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    if origin is tuple:
        of = _in_words(inner[0])
        return "a list of texts" if inner[0] is str else f"a list of {of.removeprefix('one of ')}"
    return _PLAIN.get(kind, "a section")


def _bounds(metadata: list[Any]) -> str:
    words = {Ge: ("from", "ge"), Gt: ("above", "gt"), Le: ("to", "le"), Lt: ("below", "lt")}
    found = [
        f"{words[type(bound)][0]} {getattr(bound, words[type(bound)][1])}"
        for bound in metadata
        if type(bound) in words
    ]
    return f" {' '.join(found)}".replace(" below", ", below") if found else ""
