"""What a server says in JSON, whether in one answer or in events: texts, token counts, errors."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}")
_TOO_MANY = 2**31
"""Tokens that no answer has."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer's words."""

    text: str
    """The first choice's, without its reasoning: what a conversation goes on with."""
    texts: tuple[str, ...]
    """Everything that the model made, a text a choice: what is counted."""


def said_in(answers: Iterable[Mapping[str, Any]]) -> Said:
    """The words of one answer, or of the events of one."""
    text: list[str] = []
    texts: dict[Any, list[str]] = defaultdict(list)
    for answer in answers:
        for choice in _choices(answer):
            index, part = choice.get("index", 0), _part(choice)
            texts[index] += [one for name in _TEXTS if isinstance(one := part.get(name), str)]
            if index == 0 and isinstance(content := part.get("content"), str):
                text.append(content)
    return Said("".join(text), tuple("".join(parts) for parts in texts.values()))


def has_token(choice: Any) -> bool:
    """Whether a choice of an event brings anything that the model made."""
    if not isinstance(choice, dict):
        return False
    part = _part(choice)
    return any(map(part.get, _TEXTS)) or bool(part.get("tool_calls") or part.get("function_call"))


def token_counts(usage: Mapping[str, Any] | None) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of the answer, as the server counted them."""
    if usage is None:
        return None, None
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))


def error_code(answer: Any) -> str | None:
    """The kind of an error, as `NotFoundError` or `model_not_found`; never its message."""
    if not isinstance(answer, dict):
        return None
    error = answer.get("error", answer)
    if isinstance(error, dict):
        named = (error.get("code"), error.get("type"))
        return next((one for one in named if isinstance(one, str) and _CODE.fullmatch(one)), None)
    return None


def is_answer(answer: Any) -> bool:
    """Whether this is a completion at all."""
    return isinstance(answer, dict) and bool(_choices(answer))


def _choices(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = answer.get("choices")
    if not isinstance(choices, list):
        return []
    return [choice for choice in choices if isinstance(choice, dict)]


def _part(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where a choice's words stand: of chat in the message or delta, of completions in itself."""
    part = choice.get("delta", choice.get("message"))
    return part if isinstance(part, dict) else {"content": choice.get("text")}


def _count(value: Any) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value < _TOO_MANY else None
