"""The rows of a data file: a conversation with its answer, or with a better and a worse one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.errors import DataError

Message = dict[str, str]
"""`{"role", "content"}`."""

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Chat:
    """One row to learn from: a prompt and the assistant's answer to it.

    line: where the row lies in its file, counted from 1.
    prompt: an optional system message, then turns that end with the user's.
    label: the class of the row, where the file names one; splits keep its share.
    """

    line: int
    prompt: tuple[Message, ...]
    answer: Message
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """One row of preferences: a prompt, the better answer and the worse one."""

    line: int
    prompt: tuple[Message, ...]
    chosen: Message
    rejected: Message
    label: str | None = None


Row = Chat | Preference
Kind = Literal["chat", "preference"]


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file as it was when it was read."""

    path: Path
    kind: Kind
    rows: Sequence[Row]
    bad: Sequence[DataError]
    """Every row that cannot be used, in the order of lines."""
    sha256: str
    """Of the file's bytes, in hex."""
    version: str
    """SHA-256 of the rows in canonical form, in hex: order, spacing and format do not count."""
