"""What an evaluation asks of an engine, whichever serves it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from training.data.rows import Message

Progress = Callable[[str, float | None], None]
"""Told what is being done, and the part of it that is done (0 to 1) where known."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under evaluation: the base alone, or the base with an adapter."""

    name: str
    """`base`, `candidate` or `live`."""
    adapter: Path | None = None
    """The adapter's folder, for an engine that reads files."""
    model: str | None = None
    """What an endpoint calls it, for an engine at a URL."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered."""

    text: str
    prompt_ids: tuple[int, ...]
    """The prompt as the engine saw it; empty where it does not say."""
    token_ids: tuple[int, ...]
    stopped: bool
    """Whether it ended by itself, rather than at the limit."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a model finds a given answer."""

    log_prob: float
    """Of the answer and its end of turn, in nats."""
    tokens: int


class Engine(Protocol):
    """Answers greedily, many prompts at once. As a context manager it frees the engine at the end.

    Raises EvaluationError where it cannot start, or ends.
    """

    def generate(
        self,
        subject: Subject,
        prompts: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        progress: Progress,
    ) -> list[Answer]:
        """The answers, in the order of the prompts."""

    def score(
        self,
        subject: Subject,
        rows: Sequence[tuple[Sequence[Message], str]],
        *,
        progress: Progress,
    ) -> list[Likelihood] | None:
        """How likely the given answers are; None where the engine cannot tell."""
