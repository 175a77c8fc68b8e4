"""Chat JSONL: one conversation a line, `{"messages": [{"role": ..., "content": ...}, ...]}`."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError, TrainingError

Message = dict[str, str]
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Chat:
    """One row: a prompt and the assistant's answer to it.

    line: the row's line in its file, counted from 1.
    prompt: an optional system message, then turns that end with the user's.
    """

    line: int
    prompt: tuple[Message, ...]
    answer: Message


@dataclass(frozen=True, slots=True)
class ChatFile:
    """A data file as it was when it was read."""

    rows: list[Chat]
    sha256: str
    """Of its bytes, in hex."""


def read_chats(path: Path) -> ChatFile:
    """Every row of `path`; blank lines are skipped. DataError names the first bad line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainingError(
            f"the data file cannot be read: {error.strerror}; check --data"
        ) from error
    rows = [parse_chat(number, line) for number, line in _lines(content)]
    if not rows:
        raise TrainingError("the data file has no rows; write one JSON object a line")
    return ChatFile(rows, hashlib.sha256(content).hexdigest())


def parse_chat(line: int, text: bytes) -> Chat:
    """The row in `text`, checked."""
    row = _json_object(line, text)
    _only_fields(line, "", row, {"messages"})
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise DataError(line, "messages", "is missing or empty; give a list of messages")
    checked = [_message(line, f"messages[{i}]", item) for i, item in enumerate(messages)]
    _check_turns(line, [message["role"] for message in checked])
    return Chat(line, tuple(checked[:-1]), checked[-1])


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _json_object(line: int, text: bytes) -> dict[str, object]:
    try:
        row = json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(line, "", "is not UTF-8; save the file as UTF-8") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(line, "", f"is not JSON ({error}); write one object a line") from error
    if not isinstance(row, dict):
        raise DataError(line, "", 'is not an object; write {"messages": [...]}')
    return row


def _message(line: int, field: str, item: object) -> Message:
    if not isinstance(item, dict):
        raise DataError(line, field, 'is not an object; write {"role": ..., "content": ...}')
    # A field that is read by nobody (tool calls, say) would be lost without a word.
    _only_fields(line, f"{field}.", item, {"role", "content"})
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise DataError(line, f"{field}.role", f"must be one of {', '.join(ROLES)}")
    if not isinstance(content, str) or not content.strip():
        raise DataError(line, f"{field}.content", "must be a text that is not empty")
    if any("\ud800" <= char <= "\udfff" for char in content):
        raise DataError(
            line, f"{field}.content", "holds half a surrogate pair; write the character"
        )
    return {"role": role, "content": content}


def _only_fields(line: int, prefix: str, item: dict[str, object], known: set[str]) -> None:
    for name in item:
        if name not in known:
            raise DataError(line, f"{prefix}{name}"[:80], "is not a known field; remove it")


def _check_turns(line: int, roles: list[str]) -> None:
    """A system message only at the start, then user and assistant in turns, the assistant last."""
    start = 1 if roles[0] == "system" else 0
    for i, role in enumerate(roles[start:]):
        expected = ("user", "assistant")[i % 2]
        if role != expected:
            raise DataError(
                line, f"messages[{start + i}].role", f"must be {expected} here, not {role}"
            )
    if roles[-1] != "assistant":
        raise DataError(
            line, f"messages[{len(roles) - 1}].role", "must be assistant: add the answer"
        )
