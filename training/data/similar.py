"""Which rows of a data set ask the same: pairs that hold, and the groups that they make."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.data.candidates import Pairs, candidate_pairs
from training.data.fingerprints import (
    Fingerprints,
    Progress,
    fingerprints,
    pairs_by_equality,
    shared_system_prompt,
)
from training.data.nearness import Nearness, nearness
from training.data.rows import Row


@dataclass(frozen=True)
class Similar:
    """The rows of a data set, compared.

    same: pairs whose inputs ask the same, equal ones included (each with the first of its input).
    near: pairs whose inputs differ in very little of a long text.
    groups: for each row the number of its group: rows that `same` and `near` hold together.
    """

    prints: Fingerprints
    same: Pairs
    near: Pairs
    groups: npt.NDArray[np.int64]


def compare_rows(rows: Sequence[Row], progress: Progress = lambda *_: None) -> Similar:
    """Every row with all others. Time grows with rows and with pairs that are nearly alike."""
    prints = fingerprints(rows, shared_system_prompt(rows), progress)
    progress("looking at rows that are alike", None)
    equal = pairs_by_equality(prints.inputs)
    candidates = candidate_pairs(prints)
    verdicts = _judge(rows, candidates, prints, progress)
    same = np.concatenate([equal, candidates[verdicts == Nearness.SAME]])
    near = candidates[verdicts == Nearness.ALIKE]
    groups = connected(len(rows), np.concatenate([same, near]))
    return Similar(prints, same, near, groups)


def _judge(
    rows: Sequence[Row], pairs: Pairs, prints: Fingerprints, progress: Progress
) -> npt.NDArray[np.int8]:
    verdicts = np.zeros(len(pairs), dtype=np.int8)
    last, words = -1, list[str]()
    for i, (first, second) in enumerate(pairs.tolist()):
        if i % 4096 == 0:
            progress("looking at rows that are alike", i / len(pairs))
        if first != last:  # pairs come sorted by their first
            last, words = first, prints.words(rows[first])
        verdicts[i] = nearness(words, prints.words(rows[second]), prints.distinct, prints.count)
    return verdicts


def connected(count: int, pairs: Pairs) -> npt.NDArray[np.int64]:
    """For each of `count` rows the smallest row that a chain of pairs leads to."""
    roots = list(range(count))

    def root(row: int) -> int:
        while roots[row] != row:
            roots[row] = roots[roots[row]]
            row = roots[row]
        return row

    for first, second in pairs.tolist():
        one, other = sorted((root(first), root(second)))
        roots[other] = one
    return np.array([root(row) for row in range(count)], dtype=np.int64)
