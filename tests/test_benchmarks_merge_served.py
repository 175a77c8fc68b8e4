"""The comparison of a served merge with base and adapter: its figures."""

import pytest

from benchmarks.merge_served import Served, compare
from training.evaluation.engines import Answer


def _served(*answers: tuple[int, ...], log_probs: list[list[float]]) -> Served:
    return Served([Answer("", (1,), tokens, stopped=True) for tokens in answers], log_probs)


def test_answers_agree_up_to_their_first_other_token() -> None:
    adapted = _served((5, 6, 7), (8, 9), (1,), log_probs=[[-0.1, -0.2, -0.3], [-1.0, -1.0], [-2.0]])
    merged = _served(
        (5, 6, 7), (8, 0), (1, 2), log_probs=[[-0.1, -0.2, -0.3], [-1.0, -1.5], [-2.1]]
    )
    found = compare(adapted, merged)
    assert (found.prompts, found.tokens, found.same_answers) == (3, 6, 1)
    assert found.agreement == pytest.approx(5 / 6)
    assert found.first_apart == [1, 1]
    assert found.largest_difference == pytest.approx(0.5)
    assert found.mean_difference == pytest.approx(0.6 / 6)
