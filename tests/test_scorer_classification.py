"""Accuracy and macro precision, recall and F1."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scored import scored, value_on
from training.evaluation.scorers.classification import Classification

CLASSES = st.sampled_from(["a", "b", "c"])
PAIRS = st.lists(st.tuples(CLASSES, CLASSES | st.just("none of them")), min_size=1, max_size=12)


def values(references: list[str], answers: list[str]) -> dict[str, float]:
    found = scored(Classification(), references, answers)
    return {name.removeprefix("classification."): m.value() for name, m in found.items()}


def test_worked_out_by_hand() -> None:
    found = values(["a", "a", "a", "b", "b", "c"], ["a", "a", "b", "b", "c", "b"])
    # a: 2 of 2 answers, 2 of 3 items; b: 1 of 3, 1 of 2; c: 0 of 1, 0 of 1.
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert found["precision"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert found["recall"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found["f1"] == pytest.approx((4 / 5 + 2 / 5 + 0) / 3)


def test_an_answer_outside_the_classes_is_wrong_and_speaks_against_no_class() -> None:
    found = values(["a", "a", "b", "b"], ["a", "I cannot say", "b", "b"])
    assert found["accuracy"] == 0.75
    assert found["precision"] == 1
    assert found["recall"] == 0.75


def test_white_space_and_case_do_not_count() -> None:
    assert values(["Card lost"], [" card  LOST\n"])["accuracy"] == 1


def test_a_class_that_is_never_answered_counts_as_0() -> None:
    assert values(["a", "b"], ["a", "a"])["precision"] == pytest.approx((1 / 2 + 0) / 2)


@given(PAIRS, st.data())
@settings(max_examples=60, deadline=None)
def test_a_resample_scores_as_its_items_alone(
    pairs: list[tuple[str, str]], data: st.DataObject
) -> None:
    references, answers = [a for a, _ in pairs], [b for _, b in pairs]
    rows = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=12))
    alone = values([references[i] for i in rows], [answers[i] for i in rows])
    for name, metric in scored(Classification(), references, answers).items():
        drawn = value_on(metric, rows)
        assert drawn == pytest.approx(alone[name.removeprefix("classification.")])
        assert 0 <= drawn <= 1


@given(PAIRS, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_order_does_not_count(pairs: list[tuple[str, str]], random: Random) -> None:
    shuffled = random.sample(pairs, len(pairs))
    one, other = (values([a for a, _ in p], [b for _, b in p]) for p in (pairs, shuffled))
    assert one == pytest.approx(other)


def test_the_metrics_of_two_models_can_be_paired() -> None:
    references = ["a", "b", "c", "a"]
    one = scored(Classification(), references, ["a", "b", "c", "a"])
    other = scored(Classification(), references, ["x", "x", "x", "x"])
    assert list(one) == list(other)
    assert [m.stats.shape for m in one.values()] == [m.stats.shape for m in other.values()]
    assert np.isfinite([m.value() for m in other.values()]).all()
