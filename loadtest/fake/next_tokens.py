"""The likeliest tokens after a prompt with their log-probabilities, named by their ids."""

import hashlib
import random
from typing import Any


def next_tokens(
    prompt: Any, voice: str, count: int, noise_nats: float
) -> tuple[dict[str, float], ...]:
    """For each prompt, the likeliest first: the same tokens for all, whose values are the voice's.

    noise_nats: how far the values stray from one call to the next at most.
    """
    prompts = prompt if isinstance(prompt, list) and isinstance(prompt[0], str | list) else [prompt]
    return tuple(_after(str(each), voice, count, noise_nats) for each in prompts)


def _after(prompt: str, voice: str, count: int, noise_nats: float) -> dict[str, float]:
    values = []
    for token in range(count):
        digest = hashlib.sha256(f"{voice}\n{prompt}\n{token}".encode()).digest()
        stray = random.uniform(-noise_nats, noise_nats)
        values.append((-0.01 - token - digest[0] / 20 + stray, f"token_id:{token}"))
    return {token: value for value, token in sorted(values, reverse=True)}
