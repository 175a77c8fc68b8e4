"""Whether an answer is JSON, and JSON of the form that was asked for."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from training.errors import RecipeError
from training.evaluation.scorers.json_text import Json, NotJson, parse_json

Allows = Callable[[Json], bool]

_REFERENCES = ("$ref", "$dynamicRef")
_SCHEMAS_BY_NAME = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_VALUES = ("const", "enum", "default", "examples")


def json_valid(_reference: str, answer: str) -> float:
    """1 where the answer is one JSON object or array and nothing else."""
    try:
        return float(isinstance(parse_json(answer), dict | list))
    except NotJson:
        return 0.0


def complies(allows: Allows) -> Callable[[str, str], float]:
    """1 where the answer is JSON that the schema allows."""

    def score(_reference: str, answer: str) -> float:
        try:
            return float(allows(parse_json(answer)))
        except NotJson:
            return 0.0

    return score


def load_schema(path: Path) -> Allows:
    """Whether a value is what the schema allows, by the draft it names (2020-12 if none).

    Raises RecipeError where the file cannot be read, is no schema, refers to another document, or
    to itself without end.
    """
    # jsonschema ships without types.
    from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]
    from jsonschema.validators import (  # type: ignore[import-untyped]
        Draft202012Validator,
        validator_for,
    )
    from referencing import Registry

    schema = _read(path)
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise _error(path, f"is no JSON Schema at {error.json_path}: {error.message}") from None
    _resolve(path, schema)
    registry: Registry[Any] = Registry()  # empty: no reference is fetched
    allows: Allows = kind(schema, registry=registry).is_valid
    try:
        allows({})
    except RecursionError:
        raise _error(path, "refers to itself without end") from None
    return allows


def _read(path: Path) -> Json:
    try:
        schema = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _error(path, f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _error(path, f"is no JSON: {error}") from None
    if not isinstance(schema, dict | bool):
        raise _error(
            path, f"is no JSON Schema: it must be an object, not {json.dumps(schema)[:40]}"
        )
    return schema


def _resolve(path: Path, schema: Json) -> None:
    """Raises RecipeError for a reference to another document, or to nothing."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = DRAFT202012.create_resource(schema)
    resolver = Registry().with_resource("", resource).resolver()
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise _error(
                path, f"refers to {reference!r}; put what it needs under $defs, as '#/$defs/NAME'"
            )
        try:
            resolver.lookup(reference)
        except Unresolvable:
            raise _error(path, f"refers to {reference!r}, which it does not hold") from None


def _references(schema: Json) -> Iterator[str]:
    if isinstance(schema, list):
        for one in schema:
            yield from _references(one)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key in _REFERENCES and isinstance(value, str):
                yield value
            elif key in _SCHEMAS_BY_NAME and isinstance(value, dict):
                yield from _references(list(value.values()))
            elif key not in _VALUES:
                yield from _references(value)


def _error(path: Path, problem: str) -> RecipeError:
    return RecipeError(f"evaluation.schema: {path} {problem}")
