"""What can be said of an answer without knowing the right one: pure."""

import json
from dataclasses import dataclass
from typing import Any

from gateway.answers import Answer
from gateway.loops import ends_in_loop
from gateway.schema_check import complies


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer, judged."""

    finish_reason: str | None
    empty: bool
    """Neither text nor a tool call."""
    chars: int
    loops: bool
    json_valid: bool | None
    """None where JSON was not asked for, or the answer was not seen whole."""
    schema_valid: bool | None
    """None also where there is no schema, or it cannot be checked."""


def judge(answer: Answer, *, wants_json: bool, json_schema: dict[str, Any] | None) -> Verdict:
    """Judges an answer by its form alone."""
    json_valid, schema_valid = None, None
    # An answer that calls a tool need not be in the format asked for.
    if wants_json and answer.finish_reason is not None and not answer.has_tool_calls:
        json_valid, schema_valid = _judge_json(answer.text, json_schema)
    return Verdict(
        finish_reason=answer.finish_reason,
        empty=not answer.text.strip() and not answer.has_tool_calls,
        chars=len(answer.text),
        loops=ends_in_loop(answer.text),
        json_valid=json_valid,
        schema_valid=schema_valid,
    )


def _judge_json(text: str, schema: dict[str, Any] | None) -> tuple[bool, bool | None]:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False, None if schema is None else False
    return True, None if schema is None else complies(value, schema)


def _refuse(name: str) -> None:
    raise ValueError(name)
