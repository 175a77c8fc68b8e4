"""The bootstrap over items: what a figure would have been on other items like these."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from training.evaluation.metrics import Floats

_RESAMPLES = 2000
_SEED = 0
_BLOCK_CELLS = 2_000_000
_LEAST_DEFINED = 0.9
_TAIL = 0.025
_NOTHING = 1e-12


@dataclass(frozen=True, slots=True)
class Resampled:
    """A figure of all items, and of each resample of them. items: how many; at least 2."""

    value: float
    values: Floats
    items: int

    @property
    def constant(self) -> bool:
        """Whether no resample changes it: the items all agree."""
        return bool(np.ptp(self.values) < _NOTHING)

    @property
    def standard_error(self) -> float:
        """Of the figure; unbiased for a mean."""
        return float(self.values.std() * self._widening)

    def interval(self) -> tuple[float, float]:
        """95 %: the middle of the resamples, widened by Student's t.

        Plain percentiles make small sets look surer than they are (Hesterberg 2015). The bias
        corrected and accelerated interval took twice the 5 % of true nulls for a difference, on
        F1 of 20 classes with 50 items; this one took 5 %.
        """
        from scipy.special import ndtr, stdtrit

        reach = stdtrit(self.items - 1, 1 - _TAIL) * self._widening
        low, high = np.quantile(self.values, [ndtr(-reach), ndtr(reach)])
        return float(low), float(high)

    def p_value(self) -> float:
        """Of the figure being 0, two-sided: below 0.05 where the 95 % interval leaves 0 out."""
        from scipy.special import ndtri, stdtr

        if self.constant:
            return 1.0 if abs(self.value) < _NOTHING else 1 / len(self.values)
        distance = abs(ndtri(_share_below(self.values, 0.0))) / self._widening
        return float(2 * stdtr(self.items - 1, -distance))

    @property
    def _widening(self) -> float:
        return float(np.sqrt(self.items / (self.items - 1)))


def resample(stats: Floats, value_of: Callable[[Floats], Floats]) -> Resampled | None:
    """A figure on 2,000 resamples of the items, drawn from a fixed seed.

    stats: (items, k); value_of: from sums (..., k) to the figure (...). None for fewer than two
    items, or where it is undefined on more than a tenth of the resamples.
    """
    items = len(stats)
    if items < 2:
        return None
    values = np.concatenate([value_of(weights @ stats) for weights in _weights(items)])
    defined = values[np.isfinite(values)]
    if len(defined) < _LEAST_DEFINED * len(values):
        return None
    return Resampled(float(value_of(stats.sum(axis=0))), defined, items)


def _weights(items: int) -> Iterator[Floats]:
    """How often each item is drawn in each resample, (resamples, items), in blocks."""
    random = np.random.default_rng(_SEED)
    block = max(1, _BLOCK_CELLS // items)
    for start in range(0, _RESAMPLES, block):
        rows = min(block, _RESAMPLES - start)
        drawn = random.integers(0, items, size=(rows, items))
        places = drawn + (np.arange(rows) * items)[:, None]
        counts = np.bincount(places.ravel(), minlength=rows * items)
        yield counts.reshape(rows, items).astype(np.float64)


def _share_below(values: Floats, limit: float) -> float:
    """The share of values below a limit, those on it counted half; never 0 or 1."""
    near = np.abs(values - limit) <= _NOTHING
    below = ((values < limit) & ~near).sum() + near.sum() / 2
    return float(np.clip(below, 0.5, len(values) - 0.5) / len(values))
