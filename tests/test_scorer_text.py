"""Exact match, token F1 and regex."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scored import scored
from training.evaluation.scorers.text import PerAnswer, exact_match, matches, token_f1

WORDS = st.text(alphabet="ab ,.\n", max_size=20)


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ("a b", "a b", 1.0),
        ("a  b\n", " a b", 1.0),
        ("a b", "ab", 0.0),
        ("a b", "A b", 0.0),
        ("", "", 1.0),
        ("a", "", 0.0),
    ],
)
def test_exact_match_forgives_white_space_alone(
    reference: str, answer: str, expected: float
) -> None:
    assert exact_match(reference, answer) == expected


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ("the cat sat", "the cat sat", 1.0),
        # Three of four words right, three of three found: 2 x 3 / (3 + 4).
        ("the cat sat", "sat the big cat", 6 / 7),
        ("a a b", "a", 2 / 4),
        ("Yes.", "yes", 2 / 3),
        ("", "", 1.0),
        ("a", "", 0.0),
        ("a", "b", 0.0),
    ],
)
def test_token_f1_counts_shared_words(reference: str, answer: str, expected: float) -> None:
    assert token_f1(reference, answer) == pytest.approx(expected)


@given(WORDS, WORDS)
def test_token_f1_is_bounded_symmetric_and_1_only_where_the_words_agree(a: str, b: str) -> None:
    assert 0 <= token_f1(a, b) <= 1
    assert token_f1(a, b) == token_f1(b, a)
    if exact_match(a, b):
        assert token_f1(a, b) == 1


def test_a_pattern_may_stand_anywhere_unless_it_is_bound() -> None:
    assert matches(re.compile("[0-9]+"))("", "order 12 is late") == 1
    assert matches(re.compile("^[0-9]+$"))("", "order 12 is late") == 0


def test_the_metric_is_the_mean_over_the_answers() -> None:
    scorer = PerAnswer("exact_match", exact_match, binary=True)
    metric = scored(scorer, ["a", "b", "c", "d"], ["a", "b", "c", "x"])["exact_match"]
    assert metric.value() == 0.75
    assert metric.binary
    assert metric.stats.tolist() == [[1, 1], [1, 1], [1, 1], [0, 1]]


def test_as_many_answers_as_items_are_asked_for() -> None:
    scorer = PerAnswer("exact_match", exact_match, binary=True)
    with pytest.raises(ValueError, match="shorter"):
        scored(scorer, ["a", "b"], ["a"])
