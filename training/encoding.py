"""Chats as the model sees them: token ids, and which of them are learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.data import Chat, Message
from training.errors import DataError, TrainingError

if TYPE_CHECKING:  # seconds to import: only a run pays for it
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that is not learned."""


@dataclass(frozen=True, slots=True)
class Example:
    """A row's token ids, and for each the label: the id itself, or `IGNORED`."""

    input_ids: list[int]
    labels: list[int]


def load_tokenizer(base: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in the folder `base`; it must know turns and their end."""
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            base, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise TrainingError("base: the folder has no tokenizer; give a whole model") from error
    if tokenizer.chat_template is None or tokenizer.eos_token_id is None:
        raise TrainingError("base: no chat template or no end token; use an instruct model")
    return tokenizer


def encode(chat: Chat, tokenizer: "PreTrainedTokenizerBase", max_tokens: int) -> Example:
    """`chat` through the model's own template; only the answer and its end of turn are learned."""
    prompt = _tokens(tokenizer, chat.prompt, answered=False)
    whole = _tokens(tokenizer, (*chat.prompt, chat.answer), answered=True)
    if whole[: len(prompt)] != prompt:
        raise TrainingError("base: its chat template rewrites an answered prompt; use another base")
    answer = _up_to_end(whole[len(prompt) :], tokenizer.eos_token_id)
    size = len(prompt) + len(answer)
    if size > max_tokens:
        raise DataError(
            chat.line, "messages", f"has {size} tokens, more than max_tokens {max_tokens}; cut it"
        )
    return Example(prompt + answer, [IGNORED] * len(prompt) + answer)


def _tokens(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], *, answered: bool
) -> list[int]:
    text = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=not answered
    )
    # The template has written the special tokens already.
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def _up_to_end(answer: list[int], end: int) -> list[int]:
    """What a template writes behind the end of turn is never generated, so it is not learned.

    A template that writes no end of turn would teach the model never to stop: it gets one.
    """
    return answer[: answer.index(end) + 1] if end in answer else [*answer, end]
