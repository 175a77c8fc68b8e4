"""What requests ask: synthetic text, or the rows of a file of real prompts."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, Protocol

from pydantic import Field

from loadtest.samples import encode
from loadtest.workload.errors import RowError, WorkloadError
from loadtest.workload.files import RowFile, one_column
from loadtest.workload.lengths import Fixed, Length
from loadtest.workload.part import Part
from loadtest.workload.words import Texts

Message = dict[str, Any]
_OPENING = {"system", "developer", "user"}
_SHARE_GPT = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
}


class Synthetic(Part):
    """Words drawn at random, so that no two prompts share a prefix but the one that is asked."""

    kind: Literal["synthetic"] = "synthetic"
    tokens: Length = Fixed(value=512)


class PromptFile(Part):
    """Real prompts: JSONL with `messages` or `prompt` a row, CSV, or a text file's lines.

    Messages are OpenAI's, or ShareGPT's with `from` and `value`.
    """

    kind: Literal["file"] = "file"
    path: Path
    column: str | None = None
    """Left out: `messages`, else `conversations`, else `prompt`, else the only one."""
    order: Literal["in_order", "random"] = "in_order"
    """`in_order` begins anew after the last."""


class Prefix(Part):
    """Text that many prompts begin with: a system message in chat."""

    tokens: int = Field(ge=1)
    groups: int = Field(default=1, ge=1)
    """So many different ones; each prompt has any of them."""
    per: Literal["all", "tenant", "model"] = "all"
    """`tenant` or `model`: each has its own groups, as where every adapter has its own system
    prompt."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """tokens: of the text of all messages; None where unknown."""

    messages: tuple[Message, ...]
    tokens: int | None


class Prompts(Protocol):
    """Where prompts come from. Drawing is cheap and goes in order; writing can be spared."""

    separator: str
    """Stands between messages where they become one text."""
    adds_up: bool
    """Whether that text has as many tokens as its messages together."""

    def draw(self, wanted: int | None) -> int:
        """Which prompt comes next, as a number. wanted: the tokens that a trace asks for."""
        ...

    def write(self, drawn: int, index: int) -> Prompt:
        """That prompt, for the request of this index."""
        ...


class SyntheticPrompts:
    """Words; the number drawn is that of their tokens."""

    separator = " "

    def __init__(self, draw: Callable[[Random], int], rng: Random, texts: Texts) -> None:
        self._draw = draw
        self._rng = rng
        self._texts = texts
        self.adds_up = texts.additive

    def draw(self, wanted: int | None) -> int:
        tokens = self._draw(self._rng)
        return tokens if wanted is None else wanted

    def write(self, drawn: int, index: int) -> Prompt:
        text = self._texts.text(drawn, "prompt", index)
        return Prompt(({"role": "user", "content": text},), drawn)


class FilePrompts:
    """Rows of a file; the number drawn is the row's place. Only where rows begin is kept.

    Raises WorkloadError, when made, for any row that cannot be used.
    """

    separator = "\n"
    adds_up = False

    def __init__(self, spec: PromptFile, rng: Random, texts: Texts) -> None:
        self._file = RowFile(spec.path)
        self._column = spec.column
        self._rng = rng if spec.order == "random" else None
        self._texts = texts
        self._next = 0
        self._lines, self._offsets = array("q"), array("q")
        for row in self._file.rows():
            self._check(row.line, self._messages(row.line, row.fields))
            self._lines.append(row.line)
            self._offsets.append(row.offset)
        if not self._lines:
            raise WorkloadError(f"{spec.path.name}: holds no prompt")

    def draw(self, wanted: int | None = None) -> int:  # rows have their lengths
        if self._rng is not None:
            return int(self._rng.random() * len(self._lines))
        self._next += 1
        return (self._next - 1) % len(self._lines)

    def write(self, drawn: int, index: int) -> Prompt:  # as Prompts
        return self._prompt(_without_answer(self._read(drawn)))

    def turns(self, drawn: int) -> list[Prompt]:
        """The row as the turns of its user, without the answers recorded between them."""
        return [self._prompt(turn) for turn in _user_turns(self._read(drawn))]

    def _prompt(self, messages: list[Message]) -> Prompt:
        counts = [
            self._texts.count(message["content"]) if isinstance(message["content"], str) else None
            for message in messages
        ]
        known = [count for count in counts if count is not None]
        return Prompt(tuple(messages), sum(known) if len(known) == len(counts) else None)

    def _read(self, drawn: int) -> list[Message]:
        line = self._lines[drawn]
        return self._messages(line, self._file.at(line, self._offsets[drawn]))

    def _messages(self, line: int, fields: dict[str, Any]) -> list[Message]:
        name = self._column_in(fields)
        given = fields[name]
        if isinstance(given, str) and given:
            return [{"role": "user", "content": given}]
        if not isinstance(given, list) or not given:
            raise RowError(self._file.path, line, f"`{name}` must be a text or a list of messages")
        return [self._message(line, f"{name}[{place}]", one) for place, one in enumerate(given)]

    def _message(self, line: int, where: str, given: object) -> Message:
        if isinstance(given, dict) and {"role", "content"} <= given.keys():
            return given
        role = _SHARE_GPT.get(str(given.get("from"))) if isinstance(given, dict) else None
        if isinstance(given, dict) and role is not None and "value" in given:
            return {"role": role, "content": given["value"]}
        fault = f"`{where}` must be an object with `role` and `content`, or `from` and `value`"
        raise RowError(self._file.path, line, fault)

    def _column_in(self, fields: dict[str, Any]) -> str:
        usual = [name for name in ("messages", "conversations", "prompt") if name in fields]
        if self._column is None and usual:
            return usual[0]
        return one_column(self._file.path, self._column, fields)

    def _check(self, line: int, messages: list[Message]) -> None:
        if not _user_turns(messages):
            raise RowError(self._file.path, line, "no message is of role `user`")
        try:
            encode({"messages": messages})
        except UnicodeEncodeError as error:
            fault = "holds half of a surrogate pair, which no text can; take it out"
            raise RowError(self._file.path, line, fault) from error


def as_text(messages: tuple[Message, ...], separator: str) -> str:
    """Messages as one prompt. Parts that are no text, as images, are left out."""
    return separator.join(_content(message["content"]) for message in messages)


def with_prefix(prompt: Prompt, text: str, tokens: int) -> Prompt:
    """The prompt after a system message of `text`, which has so many tokens."""
    total = None if prompt.tokens is None else tokens + prompt.tokens
    return Prompt(({"role": "system", "content": text}, *prompt.messages), total)


def without_system(prompt: Prompt) -> Prompt:
    """For a later turn, whose session has its system message already."""
    kept = tuple(message for message in prompt.messages if message["role"] == "user")
    return Prompt(kept, prompt.tokens if len(kept) == len(prompt.messages) else None)


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _without_answer(messages: list[Message]) -> list[Message]:
    """Up to the last user's message: what follows is the answer that was recorded."""
    last = max(place for place, message in enumerate(messages) if message["role"] == "user")
    return messages[: last + 1]


def _user_turns(messages: list[Message]) -> list[list[Message]]:
    """What stands between the answers: each has a user's message, or it is no turn."""
    turns: list[list[Message]] = [[]]
    for message in messages:
        if message["role"] in _OPENING:
            turns[-1].append(message)
        elif any(one["role"] == "user" for one in turns[-1]):
            turns.append([])
    return [turn for turn in turns if any(one["role"] == "user" for one in turn)]
