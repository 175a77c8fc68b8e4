"""Whether a version changes what the engine answers, decided from log-probabilities; pure.

vLLM loads an adapter of which it applies nothing without a word, and answers as the base does. Nor
does it answer one question twice in the same way: whatever else is in a batch moves the last
digits. So a version is proved where it differs from the base by far more than the base from itself.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from adapters_registry.types import Proof, ProofState

PROMPTS = (
    "User: My parcel was due on Monday and it is still not here. What can I do?\nAssistant: I",
    "User: How do I set a new password?\nAssistant:",
    "User: Hello!\nAssistant: Hello, how may I",
    "def mean(values: list[float]) -> float:\n    return sum(values) /",
    "for name in sorted(names):\n    print(",
    "SELECT name, count(*) FROM orders WHERE state = 'open' GROUP",
    '{"order": 4711, "state": "shipped", "items": [{"name": "lamp", "count":',
    '{"answer": "',
    "The ferry left the harbour before sunrise. From the deck one could see the lights of the",
    "She opened the letter, read it twice and",
    "Question: Which number is larger, 17 or 71?\nAnswer:",
    "# Release notes\n\n- Fixed: the list of",
)
"""Several kinds of text, each cut off before its next token. The log-probabilities of the prompts'
own tokens would say more in one call, but with LoRA enabled vLLM's CPU engine dies of them wherever
a batch holds two sequences (seen in 0.32)."""

MOST_LOGPROBS = 20
"""How many of the likeliest next tokens are compared for each prompt: what vLLM gives unasked."""

ROUNDS = 2
"""How often the version is asked, each time with the base before and after it: load that comes or
goes in the middle then shows as the base's own noise."""

NOISE_FACTOR = 3.0
"""An inert version is as far from the base as the base from itself. Few runs may show too little of
that noise; an adapter that was trained at all lies tens of times above it."""

FLOOR_NATS = 1e-4
"""Differences below this are no adapter's work that anyone could see: they are what the last digits
of float32 come to where a quiet engine shows no noise at all."""

NEGLIGIBLE_UPDATE = 1e-6
"""Base weights are some hundredths; what is added below this is lost in their last digits."""

Run = Sequence[Mapping[str, float]]
"""One answer of the engine: for each prompt the log-probabilities of the likeliest next tokens."""


def read_run(raw: bytes) -> tuple[dict[str, float], ...]:
    """The run in a completions answer to PROMPTS. Raises ValueError."""
    try:
        choices = sorted(json.loads(raw)["choices"], key=lambda choice: choice["index"])
        tops = [choice["logprobs"]["top_logprobs"][0] for choice in choices]
        run = tuple({token: float(value) for token, value in top.items()} for top in tops)
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise ValueError("no log-probabilities") from None
    if len(run) != len(PROMPTS) or not all(run):
        raise ValueError("not an answer to each prompt")
    if not all(math.isfinite(value) for top in run for value in top.values()):
        raise ValueError("log-probabilities that are no numbers")
    return run


def decide(base: Sequence[Run], version: Sequence[Run], *, base_name: str) -> Proof:
    """Proved or inert, without a reason. Two runs of the base or more, one of the version or more.

    The least of the differences counts, and the greatest of the noise.
    """
    noise = max(_distance(one, other) for one, other in pairwise(base))
    difference = min(_distance(one, other) for one in version for other in base)
    differs = difference > max(FLOOR_NATS, NOISE_FACTOR * noise)
    return Proof(
        state=ProofState.PROVED if differs else ProofState.INERT,
        difference=difference,
        noise=noise,
        tokens=sum(map(len, base[0])),
        base=base_name,
    )


def likely_reason(proof: Proof, largest_update: float, targets: Sequence[str]) -> str:
    """Why a version is likely inert.

    largest_update: what it adds to an element of the base's weights at most. targets: the last
    names of the modules that it adapts.
    """
    if largest_update < NEGLIGIBLE_UPDATE:
        return (
            "Likely it was hardly trained: its weights are all but zero, and add"
            f" {largest_update:.0e} at most to any of the base's. Train it longer or at a higher"
            " learning rate."
        )
    if proof.difference <= FLOOR_NATS:
        return (
            f"Likely the engine applies none of its modules ({', '.join(targets)}): vLLM passes"
            " over those that it does not know by their path in the model. Train it on the model"
            " that is served."
        )
    return (
        "Its difference is lost in the engine's own noise: likely it was trained too little. If the"
        " engine was very busy, prove it again when it is quiet."
    )


def _distance(one: Run, other: Run) -> float:
    """Mean absolute difference, in nats."""
    found = [value for a, b in zip(one, other, strict=True) for value in _differences(a, b)]
    return math.fsum(found) / len(found)


def _differences(one: Mapping[str, float], other: Mapping[str, float]) -> Iterator[float]:
    """Of a token that only one of them names, the other knows that it is no likelier than its last:
    so far it certainly lies off.
    """
    least_one, least_other = min(one.values()), min(other.values())
    for token in sorted(one.keys() | other.keys()):
        if token in one and token in other:
            yield abs(one[token] - other[token])
        elif token in one:
            yield max(0.0, one[token] - least_other)
        else:
            yield max(0.0, other[token] - least_one)
