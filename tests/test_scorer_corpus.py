"""BLEU and chrF against sacrebleu's own corpus scores, on any resample of the items."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from tests.scored import scored, value_on
from training.evaluation.scorers.corpus import Bleu, Chrf

SENTENCES = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mats", "."]), max_size=7).map(
    " ".join
)
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=6)


def bleu(references: list[str], answers: list[str]) -> float:
    return float(BLEU(force=True).corpus_score(answers, [references]).score)


def chrf(references: list[str], answers: list[str]) -> float:
    return float(CHRF().corpus_score(answers, [references]).score)


@given(PAIRS, st.data())
@settings(max_examples=60, deadline=None)
def test_any_resample_has_the_score_sacrebleu_gives_it(
    pairs: list[tuple[str, str]], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=8))
    references, answers = [a for a, _ in pairs], [b for _, b in pairs]
    drawn = [references[i] for i in rows], [answers[i] for i in rows]
    for scorer, own in ((Bleu(), bleu), (Chrf(), chrf)):
        metric = scored(scorer, references, answers)[scorer.name]
        assert value_on(metric, rows) == pytest.approx(own(*drawn), abs=1e-9)
        assert 0 <= metric.value() <= 100 + 1e-9


def test_many_resamples_at_once_are_each_as_alone() -> None:
    references = ["the cat sat on the mat", "a dog barked at me", "it rains in the town today"]
    answers = ["the cat sat on a mat", "dog barked at me", "it rained in town"]
    weights = np.array([[1, 1, 1], [3, 0, 0], [0, 0, 0], [0, 2, 1]], dtype=np.float64)
    for scorer in (Bleu(), Chrf()):
        metric = scored(scorer, references, answers)[scorer.name]
        together = metric.value_of(weights @ metric.stats)
        assert together.shape == (4,)
        for row, value in zip(weights, together, strict=True):
            assert value == metric.value_of(row @ metric.stats)


def test_the_same_texts_score_100_and_others_0() -> None:
    for scorer in (Bleu(), Chrf()):
        same = scored(scorer, ["one two three four five"], ["one two three four five"])
        other = scored(scorer, ["one two three four five"], ["KKK"])
        assert same[scorer.name].value() == pytest.approx(100)
        assert other[scorer.name].value() == 0


def test_a_bleu_worked_out_by_hand() -> None:
    # 3 of 4 words, 1 of 3 pairs, 0 of 2 triples (half of one), 0 of 1 (a quarter of one); both
    # lengths are 4.
    metric = scored(Bleu(), ["a b c d"], ["a b x d"])["bleu"]
    by_hand = 100 * (3 / 4 * 1 / 3 * (0.5 / 2) * (0.25 / 1)) ** 0.25
    assert metric.value() == pytest.approx(by_hand)
