"""How sure a figure is: intervals of one model's metrics, and of the difference of two.

Right-or-wrong metrics: Wilson's interval; for a difference Bonett and Price's paired interval and
McNemar's exact test. All others: the bootstrap over items. It draws the same items every time.
"""

import numpy as np

from training.evaluation.bootstrap import Resampled, resample
from training.evaluation.metrics import Floats, Metric
from training.evaluation.proportions import (
    Flips,
    detectable_difference,
    mcnemar_p,
    paired_interval,
    wilson,
)
from training.evaluation.results import Comparison, Estimate

_LEVEL = 0.05
_POWER = 0.8
_KNOWN_SPREAD = 10
"""On so many items two models must differ for the spread of their differences to be known."""
_UNKNOWN = Comparison(difference=None, low=None, high=None, p_value=None, detectable=None)


def estimate(metric: Metric) -> Estimate:
    """The metric over all items, with its 95 % interval.

    The value is None where it is undefined; the interval is where the items are too few to say.
    """
    value = _finite(metric.value()) if len(metric.stats) else None
    if value is None:
        return Estimate(value=None, low=None, high=None)
    if metric.binary:
        right, number = metric.stats.sum(axis=0)
        low, high = wilson(right, number)
        return Estimate(value=value, low=low, high=high)
    if (found := resample(metric.stats, metric.value_of)) is None:
        return Estimate(value=value, low=None, high=None)
    low, high = _interval(found, _room(metric))
    if metric.bounds is not None:
        low, high = max(low, metric.bounds[0]), min(high, metric.bounds[1])
    return Estimate(value=value, low=low, high=high)


def compare(candidate: Metric, other: Metric) -> Comparison:
    """The candidate's metric minus the other's, paired item by item.

    All None where either is undefined. Raises ValueError where the items are not the same.
    """
    if len(candidate.stats) != len(other.stats):
        raise ValueError(f"{candidate.name}: the models were judged on different items")
    if candidate.binary and other.binary:
        return _compare_binary(candidate.stats, other.stats)
    width = candidate.stats.shape[1]

    def difference_of(sums: Floats) -> Floats:
        return candidate.value_of(sums[..., :width]) - other.value_of(sums[..., width:])

    both = np.concatenate([candidate.stats, other.stats], axis=1)
    difference = _finite(float(difference_of(both.sum(axis=0)))) if len(both) else None
    if difference is None or (found := resample(both, difference_of)) is None:
        return _UNKNOWN.model_copy(update={"difference": difference})
    differing = int((candidate.stats != other.stats).any(axis=1).sum())
    # Of six items or more can all lie on one side by chance less often than 5 %.
    p_value = max(found.p_value(), min(1.0, 2 * 0.5**differing))
    room = 0.0 if differing >= _KNOWN_SPREAD and not found.constant else _room(candidate)
    low, high = _difference_interval(found, room, significant=p_value <= _LEVEL)
    return Comparison(
        difference=difference,
        low=low,
        high=high,
        p_value=p_value,
        detectable=_detectable(found, room),
    )


def _compare_binary(candidate: Floats, other: Floats) -> Comparison:
    known = (candidate[:, 1] > 0) & (other[:, 1] > 0)
    first, second = candidate[known, 0] > 0.5, other[known, 0] > 0.5
    if not known.any():
        return _UNKNOWN
    flips = Flips(int(known.sum()), int((first & ~second).sum()), int((second & ~first).sum()))
    low, high = paired_interval(flips)
    return Comparison(
        difference=flips.difference,
        low=low,
        high=high,
        p_value=mcnemar_p(flips),
        detectable=detectable_difference(flips),
    )


def _interval(found: Resampled, room: float) -> tuple[float, float]:
    """The bootstrap's, and where all items agree also what they leave open."""
    low, high = found.interval()
    unseen = _unseen(found, room) if found.constant else 0.0
    return low - unseen, high + unseen


def _unseen(found: Resampled, room: float) -> float:
    """How far items unlike all of these could move the figure: as many as n without one allow."""
    return room * float(1 - (_LEVEL / 2) ** (1 / found.items))


def _difference_interval(
    found: Resampled, room: float, *, significant: bool
) -> tuple[float, float]:
    """As _interval; without significance it reaches 0, and covers what few differing items leave
    open. room: 0 where enough items differ."""
    low, high = _interval(found, room)
    if significant:
        return low, high
    unseen = _unseen(found, room)
    low, high = min(low, found.value - unseen), max(high, found.value + unseen)
    return min(low, 0.0), max(high, 0.0)


def _detectable(found: Resampled, room: float) -> float:
    """In standard errors by Student's t. room: where that is not known, two items make it."""
    from scipy.special import stdtrit

    error = max(found.standard_error, room * np.sqrt(2) / found.items)
    degrees = found.items - 1
    return float((stdtrit(degrees, 1 - _LEVEL / 2) + stdtrit(degrees, _POWER)) * error)


def _room(metric: Metric) -> float:
    """How far apart two values of the metric can lie; 0 where that is not known."""
    return metric.bounds[1] - metric.bounds[0] if metric.bounds else 0.0


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
