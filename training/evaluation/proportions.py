"""Shares of items that are right: intervals, McNemar's exact test and its power."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.metrics import Floats

_Z = 1.959964  # 95 % of a normal distribution lie within
_LEVEL = 0.05
_POWER = 0.8
_HALVINGS = 30


@dataclass(frozen=True, slots=True)
class Flips:
    """Two models on the same items. gained: items that only the first has right; lost: only the
    other."""

    items: int
    gained: int
    lost: int

    @property
    def difference(self) -> float:
        """The first's share of right items minus the other's."""
        return (self.gained - self.lost) / self.items


def wilson(right: float, number: float) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); number above 0."""
    share = right / number
    scale = 1 + _Z**2 / number
    middle = (share + _Z**2 / (2 * number)) / scale
    half = _Z / scale * np.sqrt(share * (1 - share) / number + _Z**2 / (4 * number**2))
    # 0 and 1 are within whatever rounding says.
    low = 0.0 if right == 0 else float(middle - half)
    high = 1.0 if right == number else float(middle + half)
    return low, high


def paired_interval(flips: Flips) -> tuple[float, float]:
    """The 95 % interval of the difference of two shares of the same items (Bonett and Price 2012).

    It reaches 0 where McNemar's exact test does not tell the models apart.
    """
    number = flips.items + 2
    gained, lost = (flips.gained + 1) / number, (flips.lost + 1) / number
    half = _Z * np.sqrt((gained + lost - (gained - lost) ** 2) / number)
    low = max(-1.0, float(gained - lost - half))
    high = min(1.0, float(gained - lost + half))
    if mcnemar_p(flips) > _LEVEL:
        return min(low, 0.0), max(high, 0.0)
    return low, high


def mcnemar_p(flips: Flips) -> float:
    """Of as many gains as losses, two-sided and exact."""
    more, both = max(flips.gained, flips.lost), flips.gained + flips.lost
    return min(1.0, 2 * float(_at_least(np.array(more), np.array(both), 0.5)))


def detectable_difference(flips: Flips) -> float | None:
    """The smallest difference that McNemar's exact test shows with 80 % power at 5 %.

    The rarer kind of flip stays as frequent as it was, one more counted, so that a set without any
    is not believed to be free of chance; the other kind grows. None where no difference would do.
    """
    against = (min(flips.gained, flips.lost) + 1) / (flips.items + 2)
    needed = _gains_needed(flips.items)
    low, high = 0.0, 1 - 2 * against
    if high <= 0 or _power(high, against, needed) < _POWER:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _power(middle, against, needed) >= _POWER else (middle, high)
    return high


def _gains_needed(items: int) -> Floats:
    """For 0 to `items` flips: how many of them must be gains to be significant."""
    flips = np.arange(items + 1, dtype=np.float64)
    first = np.maximum(np.floor(flips / 2 + _Z * np.sqrt(flips) / 2) - 2, 0)
    tried = first[:, None] + np.arange(6)
    significant = _at_least(tried, flips[:, None], 0.5) <= _LEVEL / 2
    needed: Floats = first + np.argmax(significant, axis=1)
    return needed


def _power(difference: float, against: float, needed: Floats) -> float:
    """The chance of a significant gain: over the number of flips, and the gains among them."""
    from scipy.special import gammaln, xlog1py, xlogy

    items = len(needed) - 1
    share = min(1.0, 2 * against + difference)
    middle, reach = items * share, 10 * np.sqrt(items * share * (1 - share)) + 10
    flips = np.arange(max(0, int(middle - reach)), min(items, int(middle + reach) + 1) + 1)
    ways = gammaln(items + 1) - gammaln(flips + 1) - gammaln(items - flips + 1)
    chance = np.exp(ways + xlogy(flips, share) + xlog1py(items - flips, -share))
    gains = _at_least(needed[flips], flips, (against + difference) / share)
    return float((chance * gains).sum())


def _at_least(least: NDArray[Any], tries: NDArray[Any], share: float) -> Floats:
    """The chance that `least` or more of so many tries succeed, each with the same chance."""
    from scipy.special import betainc

    inside = (least > 0) & (least <= tries)
    chance = betainc(np.where(inside, least, 1), np.where(inside, tries - least + 1, 1), share)
    return np.where(inside, chance, np.asarray(least <= 0, dtype=np.float64))
