"""Train, validation and test: by what rows say, so that neither order nor other rows matter much.

Rows that ask the same stay on one side. Classes keep their shares. Rows are ranked by a digest of
their input, and the first of each class are held out: a new row moves at most its neighbours.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from training.data.classes import classes_of
from training.data.fingerprints import Progress, digest
from training.data.rows import Row
from training.data.similar import compare_rows
from training.errors import TrainingError

_TEST, _VALIDATION, _TRAIN = 0, 1, 2


@dataclass(frozen=True)
class Splits:
    """Each in the order of the file."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]


def split_rows(
    rows: Sequence[Row],
    *,
    validation: float,
    test: float,
    groups: npt.NDArray[Any] | None = None,
    progress: Progress = lambda *_: None,
) -> Splits:
    """`rows` in three parts. validation, test: their shares, from 0 to less than 1 together.

    groups: for each row the number of its group, where that is known already.
    Raises TrainingError where the shares leave nothing to train on, or a share gets no row.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise TrainingError("validation and test: must be from 0 to less than 1 together")
    if groups is None:
        groups = compare_rows(rows, progress).groups
    sides = _sides(_strata(rows, groups), len(rows), validation, test)
    parts: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    for row, group in zip(rows, groups.tolist(), strict=True):
        parts[sides[group]].append(row)
    for name, share, part in (("validation", validation, parts[1]), ("test", test, parts[0])):
        if share and not part:
            raise TrainingError(
                f"{name}: {share:.0%} of {len(rows)} rows is none; add rows or raise the share"
            )
    return Splits(train=parts[_TRAIN], validation=parts[_VALIDATION], test=parts[_TEST])


@dataclass(frozen=True)
class _Group:
    number: int
    size: int
    rank: int
    """A digest of what its rows say."""


def _strata(rows: Sequence[Row], groups: npt.NDArray[Any]) -> dict[str, list[_Group]]:
    """The groups by class, each list ranked. A group is of the class of its first-ranked row."""
    classes = classes_of(rows).of
    ranks: dict[int, tuple[int, str]] = {}
    sizes: dict[int, int] = defaultdict(int)
    for row, group, name in zip(rows, groups.tolist(), classes, strict=True):
        mine = (rank_of(row), name or "")
        ranks[group] = min(ranks.get(group, mine), mine)
        sizes[group] += 1
    strata: dict[str, list[_Group]] = defaultdict(list)
    for number, (rank, name) in ranks.items():
        strata[name].append(_Group(number, sizes[number], rank))
    return {name: sorted(strata[name], key=lambda one: one.rank) for name in sorted(strata)}


def rank_of(row: Row) -> int:
    """A number by which rows are drawn, of the prompt alone: a mended answer moves no row."""
    return digest("\0".join(f"{one['role']}\0{one['content']}" for one in row.prompt))


def _sides(
    strata: dict[str, list[_Group]], rows: int, validation: float, test: float
) -> dict[int, int]:
    """The side of each group. What a class cannot give in whole rows, the next one makes up for."""
    sides: dict[int, int] = {}
    held = {_TEST: 0.0, _VALIDATION: 0.0}
    shares = {_TEST: test, _VALIDATION: validation}
    due = {_TEST: 0.0, _VALIDATION: 0.0}
    for groups in strata.values():
        size = sum(group.size for group in groups)
        for side, share in shares.items():
            due[side] += share * size
        for group in groups:
            side = next(
                (one for one in shares if held[one] + group.size / 2 <= due[one] + 1e-9), _TRAIN
            )
            # A group that is larger than a part would be all of it.
            if side != _TRAIN and group.size > max(1.0, shares[side] * rows):
                side = _TRAIN
            sides[group.number] = side
            if side in held:
                held[side] += group.size
    return sides
