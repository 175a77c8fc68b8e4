"""A request's bytes as a JSON object: strict, bounded in depth, and safe to encode again."""

import json
import math
import re
from typing import Any, NoReturn

from gateway.config import Limits
from gateway.errors import BadRequest

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Takes an unclosed string too, so that the search stays linear.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)

_MAX_CONTAINERS = 100_000
"""Objects and lists in one text. A few megabytes of `{}` would hold up every other request."""


class NotJson(ValueError):
    """Text that is not JSON as this gateway takes it; the message holds none of the text."""


def parse_body(raw: bytes, limits: Limits) -> dict[str, Any]:
    """The body as an object that names a model. Its size was bounded while it was read.

    Raises BadRequest.
    """
    try:
        body = load_json(raw.decode(), limits.depth)
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8 text.") from None
    except NotJson as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("`model` must name a model.", param="model")
    return body


def load_json(text: str, depth: int) -> Any:
    """The value of a JSON text of `depth` levels at most.

    NaN, infinities and unpaired surrogates are no JSON here. Raises NotJson.
    """
    brackets = _count_brackets(text)
    if brackets > _MAX_CONTAINERS and _count_brackets(_STRING.sub("", text)) > _MAX_CONTAINERS:
        raise NotJson(f"it holds more than {_MAX_CONTAINERS} objects and lists")
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise _too_deep(depth) from None
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at character {error.pos}") from None
    except NotJson:
        raise
    except ValueError:
        raise NotJson("a number has too many digits") from None
    if brackets > depth and _is_deeper(value, depth):
        raise _too_deep(depth)
    if _SURROGATE.search(text) and not _is_encodable(value):
        raise NotJson("a string holds half of a surrogate pair")
    return value


def _count_brackets(text: str) -> int:
    return text.count("[") + text.count("{")


def _refuse_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    # A number like 1e999 would be sent on as `Infinity`.
    if math.isinf(number):
        raise NotJson("a number is too large")
    return number


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


def _is_encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
