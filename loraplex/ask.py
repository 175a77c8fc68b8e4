"""One question to a model through the official `openai` client, plain or streamed, timed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from openai import OpenAI, Stream
from openai.types.chat import ChatCompletionChunk

MAX_TOKENS = 40
"""Enough to tell the manners apart, and short enough for a CPU."""


@dataclass(frozen=True)
class Answer:
    """What came back, and how long it took as the client saw it.

    model: the exact name that answered. ttft_s: time to the first token, of a streamed answer.
    """

    text: str
    model: str
    tokens: int
    total_s: float
    ttft_s: float | None = None

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.total_s


def ask(client: OpenAI, model: str, question: str) -> Answer:
    """The whole answer at once."""
    started = time.monotonic()
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=MAX_TOKENS,
        temperature=0,
    )
    total_s = time.monotonic() - started
    text = answer.choices[0].message.content or ""
    tokens = answer.usage.completion_tokens if answer.usage else 0
    return Answer(text, answer.model, tokens, total_s)


def ask_streamed(
    client: OpenAI, model: str, question: str, on_text: Callable[[str], None]
) -> Answer:
    """The answer piece by piece; `on_text` is told each piece as it comes."""
    started = time.monotonic()
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=MAX_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    with stream:
        return _collect(stream, started, on_text)


def _collect(
    stream: Stream[ChatCompletionChunk], started: float, on_text: Callable[[str], None]
) -> Answer:
    pieces: list[str] = []
    model, tokens, ttft_s = "", 0, None
    for chunk in stream:
        model = chunk.model
        if chunk.usage:
            tokens = chunk.usage.completion_tokens
        if chunk.choices and (piece := chunk.choices[0].delta.content):
            ttft_s = ttft_s if ttft_s is not None else time.monotonic() - started
            pieces.append(piece)
            on_text(piece)
    return Answer("".join(pieces), model, tokens, time.monotonic() - started, ttft_s)
