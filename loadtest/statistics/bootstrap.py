"""The bootstrap over blocks of consecutive requests: how far figures may be off by chance.

Requests that wait in one queue are not independent. Blocks of them nearly are, if they are long
enough: the longer one request tells of the next, the longer the blocks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

MOST_BLOCKS = 100
FEWEST_BLOCKS = 10
_TIMES_LONGER = 3
"""Blocks are so many times as long as requests hang together."""

_ROUNDING = 1e-9

Values = NDArray[np.float64]
Draws = NDArray[np.int64]
"""How often each block is drawn in each resample: (resamples, blocks)."""


@dataclass(frozen=True, slots=True)
class Resampled:
    """A figure as it is, and in each resample."""

    value: float
    drawn: Values
    requests: int
    blocks: int


def draws_of(series: Values, resamples: int, seed: Sequence[int]) -> Draws:
    """Resamples of the blocks of a series: a value a request, in the requests' order."""
    many = len(series)
    block = max(math.sqrt(many), _TIMES_LONGER * correlated(series))
    blocks = min(many, MOST_BLOCKS, max(FEWEST_BLOCKS, int(many / block)))
    rng = np.random.default_rng(list(seed))
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)


def correlated(series: Values) -> float:
    """How many consecutive values tell as much as one alone: 1 where they are independent.

    The integrated autocorrelation time, summed up to five times itself (Sokal's window).
    """
    if np.ptp(series) <= _ROUNDING * np.abs(series).max():
        return 1.0
    off = series - series.mean()
    spectrum = np.fft.rfft(off, 2 * len(off))
    together = np.fft.irfft(spectrum * np.conj(spectrum))[: len(off)]
    times = 2 * np.cumsum(together / together[0]) - 1
    window = np.flatnonzero(np.arange(len(times)) >= 5 * times)
    return max(float(times[window[0]] if window.size else times[-1]), 1.0)


def quantiles(values: Values, draws: Draws, shares: Sequence[float | None]) -> list[Resampled]:
    """The value below which each share of the values lies, or, for None, their mean.

    values: in the requests' order, at least one.
    """
    order = np.argsort(values, kind="stable")
    values, blocks = values[order], _blocks(len(values), draws.shape[1])[order]
    drawn = np.array([_weighted(values, times[blocks], shares) for times in draws])
    found = _weighted(values, np.ones(len(values), np.int64), shares)
    return [
        Resampled(found[place], drawn[:, place], len(values), draws.shape[1])
        for place in range(len(shares))
    ]


def rate(amounts: Values, seconds: Values, draws: Draws) -> Resampled:
    """All amounts by all seconds; both a value a request, the seconds since the one before."""
    blocks = _blocks(len(amounts), draws.shape[1])
    came, took = (np.bincount(blocks, of, draws.shape[1]) for of in (amounts, seconds))
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = (draws @ came) / (draws @ took)
    value = float(amounts.sum() / seconds.sum())
    return Resampled(value, drawn, len(amounts), draws.shape[1])


def interval(value: float, drawn: Values, level: float, blocks: int) -> tuple[float, float]:
    """Where the value lies with this certainty: what the resamples leave, made wider for few
    blocks, as Student's t is wider than the normal law."""
    low, high = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)])
    z = NormalDist().inv_cdf((1 + level) / 2)
    free = blocks - 1
    wider = (1 + (z * z + 1) / (4 * free)) * math.sqrt(blocks / free)
    return value + (float(low) - value) * wider, value + (float(high) - value) * wider


def _blocks(length: int, blocks: int) -> NDArray[np.int64]:
    """The block that each of the requests in order is in."""
    return np.arange(length) * blocks // length


def _weighted(
    values: Values, weights: NDArray[np.int64], shares: Sequence[float | None]
) -> list[float]:
    """Quantiles and mean of the sorted values, each counted as often as its weight says."""
    reached = np.cumsum(weights)
    total = int(reached[-1])
    return [
        float(values @ weights) / total
        if share is None
        else float(values[np.searchsorted(reached, share * (total - 1), side="right")])
        for share in shares
    ]
