"""The prompts that a merged model is tried on, as tokens."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapters_registry.errors import ModelError
from training.evaluation.suites.general import texts

if TYPE_CHECKING:  # seconds to import
    from transformers import PreTrainedTokenizerBase

MOST_TOKENS = 512
"""Of a prompt: what is more says little that is new."""
_PROMPTS = 12
_RANDOM_TOKENS = 32


def default_prompts() -> list[str]:
    """A dozen questions of this repository's own, each about something else."""
    return [one.prompt for one in texts()[::3][:_PROMPTS]]


def as_tokens(
    base: Path, prompts: Sequence[str] | None, *, vocab_size: int, most_tokens: int
) -> list[list[int]]:
    """The prompts (None: the default ones) as the base's tokenizer and template give them.

    A base without a tokenizer gets random tokens, always the same. Raises ModelError where there is
    no token to try.
    """
    most = min(most_tokens, MOST_TOKENS)
    tokenizer = _tokenizer(base)
    if tokenizer is None and prompts is None:
        return _random(vocab_size, min(most, _RANDOM_TOKENS))
    if tokenizer is None:
        raise ModelError("the base has no tokenizer for the probes: leave them out")
    chosen = default_prompts() if prompts is None else prompts
    found = [ids[:most] for text in chosen if (ids := _encode(tokenizer, text))]
    if not found:
        raise ModelError("the probes hold no text: give prompts, or leave them out")
    return found


def _tokenizer(base: Path) -> "PreTrainedTokenizerBase | None":
    from transformers import AutoTokenizer

    if not any(base.glob("token*")):
        return None
    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, local_files_only=True)
    except (OSError, ValueError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"the base's tokenizer cannot be loaded: {first}") from error
    return found


def _encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        return list(tokenizer.encode(text))
    turn = [{"role": "user", "content": text}]
    try:
        whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    except TemplateError:  # one that wants a system message, say: plain text tries as much
        return list(tokenizer.encode(text))
    # The template has written the special tokens already.
    return list(tokenizer.encode(str(whole), add_special_tokens=False))


def _random(vocab_size: int, tokens: int) -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(vocab_size) for _ in range(tokens)] for _ in range(_PROMPTS)]
