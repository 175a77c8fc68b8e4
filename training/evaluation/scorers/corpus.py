"""BLEU and chrF over a whole set of answers, as sacrebleu defines them with its defaults."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.evaluation.engines import Answer
from training.evaluation.metrics import Floats, Item, Metric

if TYPE_CHECKING:
    from collections import Counter

_BLEU_ORDERS = 4
_CHRF_ORDERS = 6
_CHRF_BETA = 2


@dataclass(frozen=True, slots=True)
class Bleu:
    """Corpus BLEU of up to four words, tokenizer 13a, exponential smoothing; 0 to 100."""

    name: str = "bleu"

    def metrics(self, items: Sequence[Item], answers: Sequence[Answer]) -> list[Metric]:
        """The metric `bleu`."""
        from sacrebleu.metrics.bleu import BLEU

        bleu = BLEU(effective_order=True)  # says nothing on single answers; the counts are the same
        rows = []
        for item, answer in zip(items, answers, strict=True):
            score = bleu.sentence_score(answer.text, [item.reference])
            rows.append([score.sys_len, score.ref_len, *score.counts, *score.totals])
        stats = np.array(rows, dtype=np.float64).reshape(-1, 2 + 2 * _BLEU_ORDERS)
        return [Metric(self.name, "higher", stats, bleu_of, bounds=(0, 100))]

    def metric_names(self) -> list[str]:
        """`bleu`."""
        return [self.name]


@dataclass(frozen=True, slots=True)
class Chrf:
    """Corpus chrF: F2 of n-grams of up to six characters, white space aside; 0 to 100."""

    name: str = "chrf"

    def metrics(self, items: Sequence[Item], answers: Sequence[Answer]) -> list[Metric]:
        """The metric `chrf`."""
        from sacrebleu.metrics.helpers import extract_all_char_ngrams

        rows = []
        for item, answer in zip(items, answers, strict=True):
            found = extract_all_char_ngrams(answer.text, _CHRF_ORDERS)
            expected = extract_all_char_ngrams(item.reference, _CHRF_ORDERS)
            rows.append([_matched(*orders) for orders in zip(found, expected, strict=True)])
        stats = np.array(rows, dtype=np.float64).reshape(-1, 3 * _CHRF_ORDERS)
        return [Metric(self.name, "higher", stats, chrf_of, bounds=(0, 100))]

    def metric_names(self) -> list[str]:
        """`chrf`."""
        return [self.name]


def bleu_of(sums: Floats) -> Floats:
    """BLEU (...) from sums (..., 10): both lengths, n-grams that match and all n-grams."""
    found, expected = sums[..., 0], sums[..., 1]
    matched, total = sums[..., 2 : 2 + _BLEU_ORDERS], sums[..., 2 + _BLEU_ORDERS :]
    # Each order without a match counts half of the one before that had none.
    without = (matched == 0) & (total > 0)
    smoothed = 0.5 ** np.cumsum(without, axis=-1)
    precision = _divided(np.where(without, smoothed, matched), total)
    logs = np.log(precision, out=np.full_like(precision, -np.inf), where=precision > 0)
    brevity = np.exp(1 - np.maximum(_divided(expected, found), 1))
    score = 100 * brevity * np.exp(logs.mean(axis=-1))
    return np.where(matched.any(axis=-1), score, 0.0)


def chrf_of(sums: Floats) -> Floats:
    """ChrF (...) from sums (..., 18): n-grams of answer and reference, and of both, by order."""
    orders = sums.reshape(*sums.shape[:-1], _CHRF_ORDERS, 3)
    found, expected, matched = orders[..., 0], orders[..., 1], orders[..., 2]
    used = (found > 0) & (expected > 0)
    number = used.sum(axis=-1)
    precision = _divided(np.where(used, _divided(matched, found), 0).sum(axis=-1), number)
    recall = _divided(np.where(used, _divided(matched, expected), 0).sum(axis=-1), number)
    weight = _CHRF_BETA**2
    return 100 * _divided((1 + weight) * precision * recall, weight * precision + recall)


def _matched(found: "Counter[str]", expected: "Counter[str]") -> list[int]:
    """As sacrebleu counts: n-grams of an answer whose reference has none are left out."""
    return [found.total() if expected else 0, expected.total(), (found & expected).total()]


def _divided(above: Floats, below: Floats) -> Floats:
    """The quotient, 0 where it is divided by nothing."""
    shape = np.broadcast_shapes(above.shape, below.shape)
    return np.divide(above, below, out=np.zeros(shape), where=below > 0)
