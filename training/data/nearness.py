"""Do two texts ask the same? Pure decisions over their words.

Paraphrase by a filler, a plural or a typing error is the same question; another name, number or
place is another one, however much of the rest is alike ("weather in NV", "weather in NY").
"""

import math
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from enum import IntEnum

from training.data.texts import FILLERS, stem
from training.data.thresholds import NEAR_CHANGED_WEIGHT

_FAR = 3.0
"""Times the threshold, in words: what is farther apart needs no weighing."""

_RARE = 2
"""Inputs that a rare word stands in, at most; or it is so many times rarer than the other word."""
_TIMES_RARER = 50

DocumentCount = Callable[[str], int]
"""In how many different inputs a word stands."""


class Nearness(IntEnum):
    """How near two texts are; the higher, the nearer."""

    DISTINCT = 0
    ALIKE = 1
    """Long texts that differ in very little of their content: one leaks the other."""
    SAME = 2
    """Only fillers, plurals and typing errors differ: they ask the same."""


def nearness(
    first: Sequence[str], second: Sequence[str], inputs: int, count: DocumentCount
) -> Nearness:
    """Of two texts, as their words. inputs: how many different ones there are in all."""
    changes = changes_between(first, second)
    if not changes:
        return Nearness.SAME
    if any(char.isdigit() for change in changes for words in change for char in "".join(words)):
        return Nearness.DISTINCT
    if FILLERS.issuperset(first) or FILLERS.issuperset(second):
        return Nearness.DISTINCT
    real = [change for change in changes if not _says_nothing(*change, count)]
    if not real:
        return Nearness.SAME
    changed = sum(max(len(left), len(right)) for left, right in real)
    if changed > _FAR * NEAR_CHANGED_WEIGHT * max(len(first), len(second)):
        return Nearness.DISTINCT
    weight = _weight_of(inputs, count)
    larger = max(sum(map(weight, first)), sum(map(weight, second)))
    lost = sum(max(sum(map(weight, left)), sum(map(weight, right))) for left, right in real)
    return Nearness.ALIKE if lost <= NEAR_CHANGED_WEIGHT * larger else Nearness.DISTINCT


def changes_between(
    first: Sequence[str], second: Sequence[str]
) -> list[tuple[Sequence[str], Sequence[str]]]:
    """The runs of words in which the two differ, each as (of the first, of the second)."""
    start = 0
    while start < min(len(first), len(second)) and first[start] == second[start]:
        start += 1
    end = 0
    while end < min(len(first), len(second)) - start and first[-1 - end] == second[-1 - end]:
        end += 1
    left, right = first[start : len(first) - end], second[start : len(second) - end]
    if not left or not right:
        return [(left, right)] if left or right else []
    if set(left).isdisjoint(right):
        return [(left, right)]
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    return [(left[a:b], right[c:d]) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal"]


def _says_nothing(left: Sequence[str], right: Sequence[str], count: DocumentCount) -> bool:
    left = [word for word in left if word not in FILLERS]
    right = [word for word in right if word not in FILLERS]
    return len(left) == len(right) and all(
        stem(one) == stem(other) or is_typing_error(one, other, count)
        for one, other in zip(left, right, strict=True)
    )


def is_typing_error(one: str, other: str, count: DocumentCount) -> bool:
    """Whether one word is the other, mistyped: nearly the same letters, and one of them rare.

    Names are rare as well and often alike (Anna, Anne; Julian, Juliana), so two rare words must be
    long, or one must lack a letter in its middle.
    """
    if not (one.isalpha() and other.isalpha()) or one[0] != other[0]:
        return False
    shorter = min(len(one), len(other))
    few, many = sorted((count(one), count(other)))
    lacks_one = len(one) != len(other) and one[-1] == other[-1]
    both_rare = 5 if lacks_one else 7
    rare = few <= _RARE or few * _TIMES_RARER <= many
    if not rare or shorter < (4 if many > _RARE else both_rare):
        return False
    return edits(one, other) <= (1 if shorter < 8 else 2)


def edits(one: str, other: str) -> int:
    """Letters to insert, remove, replace or swap with their neighbour; 3 stands for more than 2."""
    if abs(len(one) - len(other)) > 2:
        return 3
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        before, last, row = row, before, [i]
        for j, facing in enumerate(other, start=1):
            cost = min(row[-1] + 1, before[j] + 1, before[j - 1] + (letter != facing))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == facing:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > 2:
            return 3
    return row[-1]


def _weight_of(inputs: int, count: DocumentCount) -> Callable[[str], float]:
    """A word's weight: a template's words, which are in all inputs, weigh next to nothing."""
    return lambda word: 0.0 if word in FILLERS else math.log((inputs + 2) / (count(word) + 1))
