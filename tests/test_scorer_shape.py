"""Length and repetition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scored import items_of, scored
from training.evaluation.engines import Answer
from training.evaluation.scorers.shape import Length, Repetition, repeated_share


def test_lengths_by_hand() -> None:
    found = scored(Length(), ["four", "eight ch"], ["ab", "a bc def"])
    assert found["length"].value() == pytest.approx((1 + 3) / 2)
    assert found["length.characters"].value() == pytest.approx((2 + 8) / 2)
    assert found["length.ratio"].value() == pytest.approx(10 / 12)
    assert {metric.better for metric in found.values()} == {"neither"}


def test_an_engine_that_gives_no_tokens_has_no_length_in_tokens() -> None:
    metrics = Length().metrics(items_of(["a"]), [Answer("two words", (), (), True)])
    assert math.isnan(metrics[0].value())


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("a b c d", 0.0),
        ("a b c", 0.0),
        ("", 0.0),
        # abab baba abab baba abab: two of five are new.
        ("a b a b a b a b", 3 / 5),
        ("a a a a a a", 2 / 3),
    ],
)
def test_repeated_runs_of_four(text: str, share: float) -> None:
    assert repeated_share(text.split()) == pytest.approx(share)


@given(st.lists(st.integers(0, 2), max_size=30))
def test_repetition_is_below_1_and_0_where_all_parts_differ(parts: list[int]) -> None:
    assert 0 <= repeated_share(parts) < 1
    assert repeated_share(range(len(parts))) == 0


def test_answers_that_were_cut_are_counted() -> None:
    answers = [
        Answer("x y z w", (), (1, 2, 3, 4), True),
        Answer("aaaaaa", (), (7,) * 6, False),
        Answer("b b b b b b", (), (), True),
    ]
    repeated, unfinished = Repetition().metrics(items_of(["", "", ""]), answers)
    assert repeated.value() == pytest.approx((0 + 2 / 3 + 2 / 3) / 3)
    assert unfinished.value() == pytest.approx(1 / 3)
    assert (repeated.better, unfinished.better) == ("lower", "lower")
