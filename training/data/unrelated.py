"""Labels that look shuffled: do answers have more to do with their own inputs than with others'?

Two signs of a relation, each against what chance gives: an answer repeats words of its input, and
inputs that are alike have answers that are alike. Where neither shows, the labels may be shuffled.
Both are looked for in the whole input and in its last message, since turns before may be no matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.data.fingerprints import digest
from training.data.rows import Row
from training.data.texts import FILLERS, answer_of, input_text, stem, words_of
from training.data.thresholds import (
    UNRELATED_MANY_ROWS,
    UNRELATED_MIN_ROWS,
    UNRELATED_Z,
    UNRELATED_Z_MANY,
)

_ROWS = 1500
"""Looked at, at most: those with the smallest digests."""
_WIDTH = 2048
"""Words are hashed to so many columns."""
_WORDS = 200
"""Of a long text that are looked at."""
_NEIGHBOURS = 3
_SHUFFLES = 300
_NO_DIGEST = 1 << 64

Matrix = npt.NDArray[np.float32]
Words = list[str]


@dataclass(frozen=True)
class Relation:
    """Standard deviations above chance; `unrelated` where there were signs to see, and none was.

    repeats: of the words that answers share with their inputs.
    neighbours: of how alike the answers to like inputs are.
    """

    rows: int
    repeats: float
    neighbours: float
    unrelated: bool


def relation(rows: Sequence[Row], shared_system: str | None) -> Relation | None:
    """Of answers and inputs; None where there are too few rows, or nothing to compare."""
    sample = _sample(rows, shared_system)
    if len(sample) < UNRELATED_MIN_ROWS:
        return None
    wholes, lasts, said = zip(*sample, strict=True)
    answers = _weighted(said)
    alike = answers @ answers.T
    # Answers that are all the same, or have no word in common, cannot show a relation.
    apart = alike[~np.eye(len(alike), dtype=bool)]
    if apart.std() < 1e-6:
        return None
    inputs = [_weighted(texts) for texts in ([wholes] if wholes == lasts else [wholes, lasts])]
    signs = [_above_chance(one @ answers.T, alike, _nearest(one)) for one in inputs]
    repeats, neighbours = (max(each) for each in zip(*signs, strict=True))
    limit = UNRELATED_Z_MANY if len(sample) >= UNRELATED_MANY_ROWS else UNRELATED_Z
    unrelated = max(repeats, neighbours) < limit
    return Relation(len(sample), repeats, neighbours, unrelated)


def _sample(rows: Sequence[Row], shared_system: str | None) -> list[tuple[Words, Words, Words]]:
    """The words of inputs, their last messages and answers; one row of each input, in an order of
    chance."""
    found: dict[int, tuple[Words, Words, Words]] = {}
    highest = _NO_DIGEST
    for row in rows:
        text = input_text(row, shared_system)
        if (key := digest(text)) >= highest or key in found:
            continue
        answer = [word for word in words_of(answer_of(row)["content"]) if not word.isdigit()]
        if answer:
            last = words_of(row.prompt[-1]["content"])
            found[key] = (words_of(text)[-_WORDS:], last[-_WORDS:], answer[:_WORDS])
        if len(found) == 2 * _ROWS:
            found = {key: found[key] for key in sorted(found)[:_ROWS]}
            highest = max(found)
    return [found[key] for key in sorted(found)[:_ROWS]]


def _weighted(texts: Sequence[Sequence[str]]) -> Matrix:
    """(texts, _WIDTH): rows of length 1; a word weighs the more the fewer texts have it."""
    counts = np.zeros((len(texts), _WIDTH), dtype=np.float32)
    for i, words in enumerate(texts):
        for word in words:
            counts[i, digest(stem(word)) % _WIDTH] += 0.2 if word in FILLERS else 1
    present = (counts > 0).sum(axis=0)
    weighted = np.sqrt(counts) * np.log((len(texts) + 1) / (present + 1)).astype(np.float32)
    lengths = np.linalg.norm(weighted, axis=1, keepdims=True)
    normed: Matrix = weighted / np.maximum(lengths, 1e-9)
    return normed


def _nearest(inputs: Matrix) -> npt.NDArray[np.int64]:
    """(rows, _NEIGHBOURS): the inputs that are most like each."""
    alike = inputs @ inputs.T
    np.fill_diagonal(alike, -1)
    found: npt.NDArray[np.int64] = np.argpartition(-alike, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
    return found


def _above_chance(
    repeated: Matrix, alike: Matrix, nearest: npt.NDArray[np.int64]
) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    everyone = np.arange(len(alike))
    orders = [everyone, *(generator.permutation(len(alike)) for _ in range(_SHUFFLES))]
    own = np.array([repeated[everyone, order].mean() for order in orders])
    near = np.array([alike[order[:, None], order[nearest]].mean() for order in orders])
    return _z(own), _z(near)


def _z(values: npt.NDArray[np.floating]) -> float:
    """Of the first among the others."""
    spread = float(values[1:].std())
    return float(values[0] - values[1:].mean()) / spread if spread > 1e-9 else 0.0
