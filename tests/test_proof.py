"""From log-probabilities to proved or inert, and why."""

import json
import random
from typing import Any

import pytest

from adapters_registry.types import Proof, ProofState
from gateway.proof import (
    FLOOR_NATS,
    NOISE_FACTOR,
    PROMPTS,
    ROUNDS,
    decide,
    likely_reason,
    read_run,
)

TOKENS = 12 * 20
Run = tuple[dict[str, float], ...]


def run(by: float = 0.0) -> Run:
    """A run whose every value lies `by` off the base's."""
    return tuple({f"token_id:{n}": -0.1 * n + by for n in range(20)} for _ in range(12))


def state(base: list[Run], version: list[Run]) -> ProofState:
    return decide(base, version, base_name="base").state


def test_the_same_answers_are_inert() -> None:
    found = decide([run()] * 3, [run()] * 2, base_name="base")
    assert found == Proof(
        state=ProofState.INERT, difference=0.0, noise=0.0, tokens=TOKENS, base="base"
    )


def test_a_small_difference_on_a_quiet_engine_is_a_proof() -> None:
    found = decide([run()] * 3, [run(2 * FLOOR_NATS)] * 2, base_name="base")
    assert found.state is ProofState.PROVED
    assert found.difference == pytest.approx(2 * FLOOR_NATS)
    assert found.noise == 0.0


def test_what_rounding_makes_is_none() -> None:
    assert state([run()] * 3, [run(0.9 * FLOOR_NATS)] * 2) is ProofState.INERT


def test_noise_must_be_topped_by_far() -> None:
    base = [run(), run(0.01), run()]
    assert state(base, [run(0.01 + 0.9 * NOISE_FACTOR * 0.01)] * 2) is ProofState.INERT
    assert state(base, [run(0.01 + 1.1 * NOISE_FACTOR * 0.01)] * 2) is ProofState.PROVED


@pytest.mark.parametrize("moved_at", range(2 * ROUNDS + 2))
def test_a_batch_that_changes_in_the_middle_proves_nothing(moved_at: int) -> None:
    """From some call on all answers lie 0.05 off, the base's as well as the version's."""
    answers = [run(0.05 if call >= moved_at else 0.0) for call in range(2 * ROUNDS + 1)]
    assert state(answers[::2], answers[1::2]) is ProofState.INERT


@pytest.mark.parametrize("busy", range(2 * ROUNDS + 1))
def test_one_call_in_another_batch_proves_nothing(busy: int) -> None:
    answers = [run(0.05 if call == busy else 0.0) for call in range(2 * ROUNDS + 1)]
    assert state(answers[::2], answers[1::2]) is ProofState.INERT


@pytest.mark.parametrize("noise", [1e-6, 1e-3, 0.03])
def test_noise_alone_is_never_a_proof_and_an_adapter_always_is_one(noise: float) -> None:
    dice = random.Random(7)

    def noisy(by: float) -> Run:
        return tuple(
            {token: value + by + dice.gauss(0.0, noise) for token, value in top.items()}
            for top in run()
        )

    for _ in range(300):
        base = [noisy(0.0) for _ in range(ROUNDS + 1)]
        assert state(base, [noisy(0.0) for _ in range(ROUNDS)]) is ProofState.INERT
        weak = max(2 * FLOOR_NATS, 2 * NOISE_FACTOR * noise)
        assert state(base, [noisy(weak) for _ in range(ROUNDS)]) is ProofState.PROVED


def test_other_tokens_differ_by_what_is_certain() -> None:
    one, other = {"a": -1.0, "b": -2.0, "c": -3.0}, {"a": -1.0, "b": -2.0, "d": -2.5}
    # c lies at or below -2.5 for the other, which it may have to the last digit; d is likelier
    # than all that is not named by the one.
    assert decide([(one,)] * 2, [(other,)], base_name="base").difference == pytest.approx(0.5 / 4)


# The engine's answer


def answer(**changes: Any) -> dict[str, Any]:
    """As vLLM gives it, in any order; changes: of the first choice."""
    choices: list[dict[str, Any]] = [
        {"index": index, "text": "x", "logprobs": {"top_logprobs": [{"token_id:7": -float(index)}]}}
        for index in range(len(PROMPTS))
    ]
    choices[0] |= changes
    return {"object": "text_completion", "choices": choices[::-1]}


def top(found: object) -> bytes:
    return json.dumps(answer(logprobs={"top_logprobs": [found]})).encode()


def test_a_run_is_in_the_order_of_the_prompts() -> None:
    found = read_run(json.dumps(answer()).encode())
    assert found == tuple({"token_id:7": -float(index)} for index in range(len(PROMPTS)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"choices": []}',
        b"[" * 100_000,
        json.dumps(answer(logprobs=None)).encode(),
        json.dumps(answer(logprobs={"top_logprobs": []})).encode(),
        json.dumps(answer(index="a")).encode(),
        top(None),
        top({}),
        top([1]),
        top({"token_id:1": "-1x"}),
        top({"token_id:1": float("nan")}),
    ],
)
def test_what_is_no_run_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_run(content)


# Why


def inert(difference: float, noise: float) -> Proof:
    return Proof(
        state=ProofState.INERT, difference=difference, noise=noise, tokens=TOKENS, base="base"
    )


@pytest.mark.parametrize(
    ("proof", "largest_update", "words"),
    [
        (inert(0.0, 0.0), 3e-31, "all but zero, and add 3e-31 at most"),
        (inert(0.0, 0.0), 0.01, "applies none of its modules (q_proj, v_proj)"),
        (inert(0.02, 0.01), 0.01, "lost in the engine's own noise"),
    ],
)
def test_the_likely_reason(proof: Proof, largest_update: float, words: str) -> None:
    reason = likely_reason(proof, largest_update, ["q_proj", "v_proj"])
    assert words in reason
    assert "ikely" in reason
