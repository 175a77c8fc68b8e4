"""Values of options in their short forms, checked: each message begins with the option's name."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from loadtest.command.errors import Usage
from loadtest.statistics.units import StatisticsError
from loadtest.statistics.units import share as read_share
from loadtest.workload.choices import Choice
from loadtest.workload.errors import WorkloadError
from loadtest.workload.lengths import Length, Seconds
from loadtest.workload.options import parse_seconds

_LENGTH: TypeAdapter[Any] = TypeAdapter(Length)
_SECONDS: TypeAdapter[Any] = TypeAdapter(Seconds)
_CHOICE: TypeAdapter[Any] = TypeAdapter(Choice)
_PREFIX = re.compile(r"(\d+)(?:x(\d+))?(?:/(all|tenant|model))?")


def time_s(text: str, option: str) -> float:
    """`90`, `90s`, `500ms`, `2m` in seconds. Raises Usage."""
    try:
        return parse_seconds(text, option)
    except WorkloadError as error:
        raise Usage(str(error)) from None


def share_of(text: str, option: str) -> float:
    """`95%` or `0.95`. Raises Usage."""
    try:
        return read_share(text, option)
    except StatisticsError as error:
        raise Usage(str(error)) from None


def length(text: str, option: str) -> dict[str, Any]:
    """A law of tokens or turns, as its fields. Raises Usage."""
    return _law(_LENGTH, text, option)


def pause(text: str, option: str) -> dict[str, Any]:
    """A law of seconds, as its fields; a single time may have a unit. Raises Usage."""
    if ":" not in text and text.strip() not in ("0", "0s"):
        return {"kind": "fixed", "value": time_s(text, option)}
    return _law(_SECONDS, text.strip().removesuffix("s"), option)


def choice(text: str, option: str) -> dict[str, Any]:
    """A law of choosing, as its fields. Raises Usage."""
    return _checked(_CHOICE, text, option)


def prefix(text: str) -> dict[str, Any]:
    """`200x8/tenant` as fields. Raises Usage."""
    found = _PREFIX.fullmatch(text.strip())
    if found is None or not int(found[1]) or found[2] == "0":
        raise Usage(f"--prefix: `{text}` does not fit; give TOKENS, as 200, 200x8 or 200/tenant")
    return {"tokens": int(found[1]), "groups": int(found[2] or 1), "per": found[3] or "all"}


def prompt_file(text: str) -> dict[str, Any]:
    """`FILE,column=NAME,order=random` as fields. Raises Usage."""
    path, *parts = text.split(",")
    fields: dict[str, Any] = {"kind": "file", "path": str(Path(path).expanduser().absolute())}
    for part in parts:
        name, _, value = part.partition("=")
        if name not in ("column", "order") or not value:
            raise Usage(f"--prompts: `{part}` does not fit; give column=NAME or order=random")
        fields[name] = value
    if fields.get("order") not in (None, "in_order", "random"):
        raise Usage(f"--prompts: order `{fields['order']}` is not in_order or random")
    return fields


def body_fields(text: str) -> dict[str, Any]:
    """A JSON object. Raises Usage."""
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise Usage(f"--extra: is not JSON ({error}); write it as '{{\"top_p\": 0.9}}'") from None
    if not isinstance(fields, dict):
        raise Usage("--extra: is no JSON object; write it as '{\"top_p\": 0.9}'")
    return fields


def pairs(given: list[str] | None, mark: str, option: str) -> dict[str, str]:
    """`NAME=VALUE` or `NAME: VALUE` of a repeatable option. Raises Usage, without what was given:
    it may be a key."""
    found: dict[str, str] = {}
    for text in given or ():
        name, there, value = (part.strip() for part in text.partition(mark))
        if not (name and there):
            raise Usage(f"{option}: one is not NAME{mark}VALUE; write it so")
        found[name] = value
    return found


def bounds(text: str) -> tuple[float, float]:
    """`LOW..HIGH` of rates. Raises Usage."""
    low, dots, high = text.partition("..")
    try:
        found = float(low), float(high)
    except ValueError:
        found = (0.0, 0.0)
    if not dots or not 0 < found[0] < found[1] < float("inf"):
        raise Usage(f"--bounds: `{text}` does not fit; give LOW..HIGH, as 1..500")
    return found


def _law(adapter: TypeAdapter[Any], text: str, option: str) -> dict[str, Any]:
    fields = _checked(adapter, text, option)
    if fields.get("path") is not None:
        # Relative to where the command was called, not to the workload's file.
        fields["path"] = str(Path(fields["path"]).expanduser().absolute())
    return fields


def _checked(adapter: TypeAdapter[Any], text: str, option: str) -> dict[str, Any]:
    try:
        fields: Mapping[str, Any] = adapter.validate_python(text).model_dump(exclude_none=True)
    except ValidationError as error:
        raise Usage(f"{option}: {_fault(error)}") from None
    return dict(fields)


def _fault(error: ValidationError) -> str:
    """Of the first problem: what is wrong with which part of the law."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "it must")
    if first["type"] == "missing":
        message = "is missing"
    part = first["loc"][-1] if len(first["loc"]) > 1 else None
    return message.removeprefix("value: ") if part is None else f"{part}: {message}"
