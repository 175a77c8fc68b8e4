"""A metric over items, held so that any resample of the items gives its value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Better = Literal["higher", "lower", "neither"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Item:
    """What an answer is held against. id: unique within its suite, as the row's line."""

    id: str
    prompt: str
    """The prompt's text, for people."""
    reference: str


def mean_of(sums: Floats) -> Floats:
    """The value of a mean: `sums` (..., 2) holds the values' sum and their number."""
    total, number = sums[..., 0], sums[..., 1]
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of one model over the items.

    stats: (items, k), what each item adds up to: value and 1 for a mean; true and false positives
    for an F1. value_of: from sums of rows of stats (..., k) to the figure (...), NaN where
    undefined; so a corpus metric (BLEU, macro F1) is resampled as it is defined.
    """

    name: str
    better: Better
    stats: Floats
    value_of: Callable[[Floats], Floats] = mean_of
    binary: bool = False
    """Whether each item is right or wrong: stats[:, 0] is 0 or 1, and the figure their mean."""
    bounds: tuple[float, float] | None = None
    """The least and the most that it can be, where there is such: items that all agree then still
    leave room for others."""

    def value(self) -> float:
        """Over all items."""
        return float(self.value_of(self.stats.sum(axis=0)))


def mean_metric(
    name: str,
    better: Better,
    values: Floats,
    *,
    binary: bool = False,
    bounds: tuple[float, float] | None = None,
) -> Metric:
    """The mean of one value an item; NaN values are left out of it."""
    known = ~np.isnan(values)
    stats = np.stack([np.where(known, values, 0.0), known.astype(np.float64)], axis=1)
    return Metric(name, better, stats, binary=binary, bounds=(0, 1) if binary else bounds)
