"""A request's bytes as a JSON object: strict, bounded in depth, and safe to encode again."""

import re
from typing import Any

import msgspec

from gateway.config import Limits
from gateway.errors import BadRequest

# Takes an unclosed string too, so that the search stays linear.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)

_MAX_CONTAINERS = 100_000
"""Objects and lists in one text. A few megabytes of `{}` would hold up every other request."""


class NotJson(ValueError):
    """Text that is not JSON as this gateway takes it; the message holds none of the text."""


def parse_body(raw: bytes, limits: Limits) -> dict[str, Any]:
    """The body as an object that names a model. Its size was bounded while it was read.

    Raises BadRequest.
    """
    try:
        body = load_json(raw, limits.depth)
    except NotJson as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("`model` must name a model.", param="model")
    return body


def load_json(raw: bytes | str, depth: int) -> Any:
    """The value of a JSON text of `depth` levels at most.

    What is no JSON to the letter of RFC 8259 is none here: NaN, numbers beyond what can be sent on,
    unpaired surrogates, text that is not UTF-8. Raises NotJson.
    """
    text = raw.encode() if isinstance(raw, str) else raw
    brackets = text.count(b"[") + text.count(b"{")
    if brackets > _MAX_CONTAINERS and _count_outside_strings(text) > _MAX_CONTAINERS:
        raise NotJson(f"it holds more than {_MAX_CONTAINERS} objects and lists")
    try:
        value = msgspec.json.decode(text)
    except RecursionError:
        raise _too_deep(depth) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(_told(error)) from None
    if brackets > depth and _is_deeper(value, depth):
        raise _too_deep(depth)
    return value


def _count_outside_strings(text: bytes) -> int:
    bare = _STRING.sub(b"", text)
    return bare.count(b"[") + bare.count(b"{")


def _told(error: msgspec.DecodeError | UnicodeDecodeError) -> str:
    """msgspec's own words, which name a position and quote nothing of the text."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return str(error).removeprefix("JSON is malformed: ")


def _too_deep(depth: int) -> NotJson:
    return NotJson(f"it is nested more than {depth} levels deep")


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(depth):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> list[Any]:
    values = node.values() if isinstance(node, dict) else node
    return [value for value in values if isinstance(value, dict | list)]
