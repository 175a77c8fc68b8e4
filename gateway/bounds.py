"""Bounds on request fields that are dear: checks that raise BadRequest with the field's name.

A null is never out of bounds: to vLLM and to OpenAI's clients it means that the field was not sent.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from gateway.config import Limits
from gateway.errors import BadRequest
from gateway.json_body import NotJson, load_json

Check = Callable[[str, Any, Limits], None]
"""Called with the field's name, its value (not null) and the limits."""

LimitOf = Callable[[Limits], int]

_USER_CHARS = 1024
_METADATA_BYTES = 16_384
_PATTERN_TOKENS = 256
"""vLLM tries every pattern size at every token, in the engine's own loop."""

_REGEX_KEYS = ("pattern", "regex", "whitespace_pattern")
_TEXT_KEYS = ("json", "structural_tag")
"""Fields of `structured_outputs` that may hold their JSON as a string."""

_RENDERER_KEYS = frozenset(
    {
        "chat_template",
        "conversation",
        "max_length",
        "messages",
        "model_config",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "self",
        "tokenize",
        "tokenizer",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
"""Arguments of the renderer itself: they change what it returns, or collide with vLLM's own."""


def integer(limit: LimitOf, *, low: int = 0) -> Check:
    """A whole number from `low` to the limit."""

    def check(field: str, value: Any, limits: Limits) -> None:
        _in_range(field, value, low, limit(limits))

    return check


def boolean(field: str, value: Any, limits: Limits) -> None:
    """True or false; vLLM takes 1 and "true" too, and must not read them unlike the gateway."""
    if not isinstance(value, bool):
        raise BadRequest(f"`{field}` must be true or false.", param=field)


def entries(limit: LimitOf) -> Check:
    """A list with a bounded number of entries."""

    def check(field: str, value: Any, limits: Limits) -> None:
        _count(field, _list(field, value), limit(limits))

    return check


def mapping(limit: LimitOf) -> Check:
    """An object with a bounded number of keys."""

    def check(field: str, value: Any, limits: Limits) -> None:
        _count(field, _object(field, value), limit(limits))

    return check


def strings(limit: LimitOf) -> Check:
    """A string, or a list of a bounded number of them, each `limits.stop_chars` long at most."""

    def check(field: str, value: Any, limits: Limits) -> None:
        texts = [value] if isinstance(value, str) else _list(field, value)
        _count(field, texts, limit(limits))
        for text in texts:
            if not isinstance(text, str):
                raise BadRequest(f"`{field}` must hold strings only.", param=field)
            _length(field, text, limits.stop_chars)

    return check


def user(field: str, value: Any, limits: Limits) -> None:
    """A name for the end user."""
    if not isinstance(value, str):
        raise BadRequest(f"`{field}` must be a string.", param=field)
    _length(field, value, _USER_CHARS)


def metadata(field: str, value: Any, limits: Limits) -> None:
    """An object that is small in JSON."""
    _size(field, _object(field, value), _METADATA_BYTES)


def prompts(field: str, value: Any, limits: Limits) -> None:
    """One prompt or a batch of them, as text or as token ids."""
    count = prompt_count(value)
    if count > limits.prompts:
        raise _too_many(field, count, limits.prompts)


def prompt_count(value: Any) -> int:
    """How many prompts the `prompt` of a completions call holds."""
    if not isinstance(value, list) or all(isinstance(token, int) for token in value):
        return 1
    return len(value)


def completions_batch(body: Mapping[str, Any], limits: Limits) -> None:
    """Bounds `n` answers to each prompt of a batch. Both were in bounds alone."""
    answers = int(body.get("n") or 1) * prompt_count(body.get("prompt"))
    most = max(limits.n, limits.prompts)
    if answers > most:
        raise BadRequest(
            f"`n` times the number of prompts must be at most {most}, not {answers}.", param="n"
        )


def stream_options(field: str, value: Any, limits: Limits) -> None:
    """An object whose switches are booleans."""
    for name, switch in _object(field, value).items():
        if switch is not None and name in ("include_usage", "continuous_usage_stats"):
            boolean(f"{field}.{name}", switch, limits)


def repetition_detection(field: str, value: Any, limits: Limits) -> None:
    """An object with bounded pattern sizes."""
    for name, size in _object(field, value).items():
        if size is not None and name.endswith("_pattern_size"):
            _in_range(f"{field}.{name}", size, 0, _PATTERN_TOKENS)


def template_arguments(field: str, value: Any, limits: Limits) -> None:
    """Variables for the chat template, and nothing that steers the renderer around it."""
    for name in _object(field, value):
        if name in _RENDERER_KEYS:
            raise BadRequest(
                f"`{field}` may not set `{name}`: it is set by the server.",
                param=f"{field}.{name}",
            )


def tools(field: str, value: Any, limits: Limits) -> None:
    """A bounded number of tools with bounded schemas."""
    _count(field, _list(field, value), limits.tools)
    for index, tool in enumerate(value):
        schema(f"{field}[{index}]", tool, limits)


def function_tools(field: str, value: Any, limits: Limits) -> None:
    """Tools of which the client runs each: none by which the server would connect elsewhere."""
    tools(field, value, limits)
    for index, tool in enumerate(value):
        if tool.get("type", "function") != "function":
            raise BadRequest(
                f"`{field}[{index}]` is not a function: only function tools are served, since the "
                "gateway runs no tool and opens no connection that a request names.",
                param=f"{field}[{index}].type",
            )


def constraint(field: str, value: Any, limits: Limits) -> None:
    """What the answer must look like: a schema, a grammar, a regular expression or choices."""
    schema(field, value, limits)
    choices = value.get("choice")
    if choices is not None:
        _count(f"{field}.choice", _list(f"{field}.choice", choices), limits.logit_bias)
    for name in _TEXT_KEYS:
        if isinstance(value.get(name), str):
            _embedded(f"{field}.{name}", value[name], limits)


def schema(field: str, value: Any, limits: Limits) -> None:
    """An object of bounded size, in which every regular expression is bounded too."""
    _size(field, _object(field, value), limits.schema_bytes)
    _regexes(field, value, limits.regex_chars)


def _embedded(field: str, text: str, limits: Limits) -> None:
    try:
        value = load_json(text, limits.depth)
    except NotJson as error:
        raise BadRequest(f"`{field}` is not valid JSON: {error}.", param=field) from None
    _regexes(field, value, limits.regex_chars)


def _regexes(field: str, value: Any, limit_chars: int) -> None:
    rest = [value]
    while rest:
        node = rest.pop()
        if isinstance(node, list):
            rest.extend(node)
        elif isinstance(node, dict):
            if any(len(text) > limit_chars for text in _patterns(node)):
                raise BadRequest(
                    f"A regular expression in `{field}` is longer than {limit_chars} characters.",
                    param=field,
                )
            rest.extend(node.values())


def _patterns(node: dict[str, Any]) -> list[str]:
    found = [node[key] for key in _REGEX_KEYS if isinstance(node.get(key), str)]
    properties = node.get("patternProperties")
    return [*found, *properties] if isinstance(properties, dict) else found


def _in_range(field: str, value: Any, low: int, high: int) -> None:
    # vLLM takes 3.0 for 3, and true for 1; the second is refused here.
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole:
        raise BadRequest(f"`{field}` must be a whole number.", param=field)
    if not low <= value <= high:
        raise BadRequest(f"`{field}` must be from {low} to {high}.", param=field)


def _list(field: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequest(f"`{field}` must be a list.", param=field)
    return value


def _object(field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"`{field}` must be an object.", param=field)
    return value


def _count(field: str, value: list[Any] | dict[str, Any], limit: int) -> None:
    if len(value) > limit:
        raise _too_many(field, len(value), limit)


def _too_many(field: str, count: int, limit: int) -> BadRequest:
    return BadRequest(f"`{field}` may have {limit} entries at most, not {count}.", param=field)


def _length(field: str, text: str, limit_chars: int) -> None:
    if len(text) > limit_chars:
        raise BadRequest(
            f"`{field}` holds a string of more than {limit_chars} characters.", param=field
        )


def _size(field: str, value: Any, limit_bytes: int) -> None:
    encoded = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(encoded.encode("utf-8", "surrogatepass")) > limit_bytes:
        raise BadRequest(f"`{field}` is larger than {limit_bytes} bytes in JSON.", param=field)
