"""One JSON object becomes a row: a chat, a prompt with its completion, or a preference.

`{"messages": [...]}`, `{"prompt": ..., "completion": ...}` or
`{"prompt": ..., "chosen": ..., "rejected": ...}`; prompts and answers are texts or lists of
messages. Each may carry a `label`.
"""

from collections.abc import Mapping, Sequence

from training.data.rows import ROLES, Chat, Message, Preference, Row
from training.errors import DataError

_SHAPES = (
    frozenset({"messages"}),
    frozenset({"prompt", "completion"}),
    frozenset({"prompt", "chosen", "rejected"}),
)
_HOW = (
    'write {"messages": [...]}, {"prompt": ..., "completion": ...}'
    ' or {"prompt": ..., "chosen": ..., "rejected": ...}'
)
_FIELD_CHARS = 80
"""Of a foreign field's name in a message."""


def parse_row(line: int, row: object) -> Row:
    """The row in a parsed JSON value, checked. Raises DataError."""
    if not isinstance(row, dict):
        raise DataError(line, "", f"is not an object; {_HOW}")
    shape = _shape(line, row)
    label = _label(line, row.get("label"))
    if "messages" in shape:
        return chat(line, _messages(line, "messages", row["messages"]), "messages", label)
    prompt = _side(line, "prompt", row["prompt"], "user")
    if "completion" in shape:
        completion = _side(line, "completion", row["completion"], "assistant")
        _check_turns(line, prompt, "prompt", until="user")
        return chat(line, [*prompt, *completion], "prompt and completion", label)
    _check_turns(line, prompt, "prompt", until="user")
    chosen, rejected = (_one_answer(line, name, row[name]) for name in ("chosen", "rejected"))
    if chosen == rejected:
        raise DataError(line, "rejected", "is the same as chosen; give a worse answer")
    return Preference(line, tuple(prompt), chosen, rejected, label)


def chat(line: int, messages: Sequence[Message], field: str, label: str | None = None) -> Chat:
    """The conversation in `messages`, whose turns are checked. field: where they stood."""
    _check_turns(line, messages, field, until="assistant")
    return Chat(line, tuple(messages[:-1]), messages[-1], label)


def message(line: int, field: str, role: str, content: object) -> Message:
    """A message, its text checked. Raises DataError for `field`."""
    if not isinstance(content, str) or not content.strip():
        raise DataError(line, field, "must be a text that is not empty")
    if not is_unicode(content):
        raise DataError(line, field, "holds half a surrogate pair; write the character")
    return {"role": role, "content": content}


def is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8: no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shape(line: int, row: Mapping[str, object]) -> frozenset[str]:
    """Which of the shapes the row has; a field that nobody reads would be lost without a word."""
    names = {name for name, value in row.items() if not (name == "label" and value is None)}
    names.discard("label")
    # The shape with most of its fields there; the longer one where chosen or rejected is named.
    shape = max(_SHAPES, key=lambda fields: (len(fields & names), -len(fields - names)))
    if not shape & names:
        if names:
            unknown = ", ".join(sorted(names))[:_FIELD_CHARS]
            raise DataError(line, "", f"has no fields of a row (only {unknown}); {_HOW}")
        raise DataError(line, "messages", f"is missing or empty; {_HOW}")
    for name in sorted(shape - names):
        raise DataError(line, name, "is missing; add it")
    for name in row:
        if name in names - shape:
            raise DataError(line, name[:_FIELD_CHARS], "is not a known field; remove it")
    return shape


def _label(line: int, label: object) -> str | None:
    if label is None:
        return None
    if not isinstance(label, str | int) or not str(label).strip():
        raise DataError(line, "label", "must be a text that is not empty, or a whole number")
    return str(label)


def _side(line: int, field: str, value: object, role: str) -> list[Message]:
    """A text is one message of `role`."""
    if isinstance(value, list):
        return _messages(line, field, value)
    return [message(line, field, role, value)]


def _one_answer(line: int, field: str, value: object) -> Message:
    messages = _side(line, field, value, "assistant")
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise DataError(
            line, field, "must be one message of the assistant; move earlier turns to prompt"
        )
    return messages[0]


def _messages(line: int, field: str, value: object) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise DataError(line, field, "is missing or empty; give a list of messages")
    return [_message(line, f"{field}[{i}]", item) for i, item in enumerate(value)]


def _message(line: int, field: str, item: object) -> Message:
    if not isinstance(item, dict):
        raise DataError(line, field, 'is not an object; write {"role": ..., "content": ...}')
    for name in item:
        # Tool calls, say: read by nobody.
        if name not in ("role", "content"):
            raise DataError(
                line, f"{field}.{name}"[:_FIELD_CHARS], "is not a known field; remove it"
            )
    role = item.get("role")
    if role not in ROLES:
        raise DataError(line, f"{field}.role", f"must be one of {', '.join(ROLES)}")
    return message(line, f"{field}.content", role, item.get("content"))


def _check_turns(line: int, messages: Sequence[Message], field: str, *, until: str) -> None:
    """A system message only at the start, then user and assistant in turns, `until` the last."""
    roles = [one["role"] for one in messages]
    start = 1 if roles[0] == "system" else 0
    for i, role in enumerate(roles[start:]):
        expected = ("user", "assistant")[i % 2]
        if role != expected:
            raise DataError(
                line, f"{field}[{start + i}].role", f"must be {expected} here, not {role}"
            )
    if roles[-1] != until:
        fix = "add the answer" if until == "assistant" else "end with the user's message"
        raise DataError(line, f"{field}[{len(roles) - 1}].role", f"must be {until}: {fix}")
