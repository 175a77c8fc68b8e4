"""JSON read as strictly as a program behind the model would have to."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

Json = Any
"""What JSON can say: dict, list, str, int, float, bool or None."""


_DEEPEST = 100


class NotJson(ValueError):
    """Text that is not one JSON value and nothing else."""


def parse_json(text: str) -> Json:
    """The value of a text that is JSON and nothing else, white space around it aside.

    Raises NotJson for what Python's reader lets pass but others refuse or read otherwise: NaN and
    Infinity, a key given twice, half of a surrogate pair; and for more than 100 levels.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_object)
        for string in _strings(value, 0):
            string.encode()
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None
    return value


def _refuse(constant: str) -> NoReturn:
    raise NotJson(f"{constant} is no JSON")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotJson("a key is given twice")
    return found


def _strings(value: Json, depth: int) -> Iterator[str]:
    """Every string in the value, keys too."""
    if depth >= _DEEPEST and isinstance(value, dict | list):
        raise NotJson("nested too deep")
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from _strings(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, depth + 1)
