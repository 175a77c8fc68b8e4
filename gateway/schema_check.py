"""Whether a value complies with a caller's JSON schema, in bounded time and without the network."""

import json
import time
from collections.abc import Iterator
from typing import Any

# jsonschema ships without types.
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from jsonschema.exceptions import SchemaError, ValidationError  # type: ignore[import-untyped]
from jsonschema.validators import extend, validator_for  # type: ignore[import-untyped]
from referencing import Registry
from referencing.exceptions import Unresolvable

_BUDGET_S = 0.25


class _OutOfTime(Exception):
    """The schema takes longer than its value is worth."""


def complies(value: Any, schema: dict[str, Any]) -> bool | None:
    """None where the schema is itself in error, refers elsewhere, or takes too long.

    Regular expressions are not looked at, since a caller's can take for ever.
    """
    if not isinstance(schema.get("$schema", ""), str):
        return None
    known = validator_for(schema, default=Draft202012Validator)
    try:
        known.check_schema(schema)
        # A registry of our own: the default one fetches what `$ref` names.
        validator = _bounded(known, time.monotonic() + _BUDGET_S)(schema, registry=Registry())
        return bool(validator.is_valid(value))
    except (SchemaError, Unresolvable, RecursionError, ArithmeticError, _OutOfTime):
        return None


def _bounded(known: Any, deadline: float) -> Any:
    """The validator class, with every keyword on the clock and the dangerous ones replaced."""
    keywords = known.VALIDATORS | {
        "additionalProperties": _additional_properties(known.VALIDATORS["additionalProperties"]),
        "pattern": _pass,
        "patternProperties": _pass,
        "unevaluatedItems": _pass,
        "unevaluatedProperties": _pass,
        "uniqueItems": _unique_items,
    }
    return extend(known, {name: _timed(check, deadline) for name, check in keywords.items()})


def _timed(check: Any, deadline: float) -> Any:
    def timed(validator: Any, wanted: Any, value: Any, schema: Any) -> Any:
        if time.monotonic() > deadline:
            raise _OutOfTime
        return check(validator, wanted, value, schema)

    return timed


def _pass(validator: Any, wanted: Any, value: Any, schema: Any) -> None:
    return None


def _additional_properties(check: Any) -> Any:
    def without_patterns(validator: Any, wanted: Any, value: Any, schema: Any) -> Any:
        return None if "patternProperties" in schema else check(validator, wanted, value, schema)

    return without_patterns


def _unique_items(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
    """In linear time, which jsonschema's own is not."""
    if wanted and isinstance(value, list):
        seen = {json.dumps(item, sort_keys=True) for item in value}
        if len(seen) < len(value):
            yield ValidationError("items are not unique")
