"""The histogram beside numpy: percentiles, exact ends, merging, what it refuses."""

import json
import math
import tracemalloc
from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loadtest.statistics.histogram import (
    COARSE_BITS,
    HIGHEST_S,
    LOWEST_S,
    Histogram,
    Method,
    Spread,
)

PERCENTS = (0, 0.1, 1, 10, 25, 50, 75, 90, 95, 99, 99.9, 99.99, 100)
WIDTH = 2.0**-8
"""Of a bucket, in proportion; a bucket's middle is half as far from what is in it."""


def of(values: Sequence[float] | NDArray[np.float64], bits: int = 8) -> Histogram:
    made = Histogram(bits)
    made.extend(np.asarray(values, np.float64))
    return made


def percentiles(histogram: Histogram, method: Method = "linear") -> NDArray[np.float64]:
    return np.array([histogram.percentile(p, method) for p in PERCENTS], np.float64)


def told(histogram: Histogram) -> dict[str, object]:
    """All that it holds; the sum, which is added up in another order, about."""
    return histogram.to_json() | {"sum": pytest.approx(histogram.sum, rel=1e-12)}


@pytest.mark.parametrize("law", ["lognormal", "pareto", "uniform", "two_humps"])
def test_percentiles_of_a_million_are_numpys_within_half_a_bucket(law: str) -> None:
    rng = np.random.default_rng(1)
    laws: dict[str, Callable[[], NDArray[np.float64]]] = {
        "lognormal": lambda: rng.lognormal(-2, 1.5, 1_000_000),
        "pareto": lambda: 0.001 * (1 + rng.pareto(1.5, 1_000_000)),
        "uniform": lambda: rng.uniform(0.1, 0.2, 1_000_000),
        "two_humps": lambda: np.where(
            rng.random(1_000_000) < 0.97,
            rng.normal(0.02, 0.001, 1_000_000),
            rng.normal(2, 0.1, 1_000_000),
        ),
    }
    values = laws[law]()

    histogram = of(values)

    np.testing.assert_allclose(
        percentiles(histogram), np.percentile(values, PERCENTS), rtol=WIDTH / 2
    )
    assert (histogram.count, histogram.min, histogram.max) == (1e6, values.min(), values.max())
    assert histogram.sum == pytest.approx(values.sum(), rel=1e-12)


@settings(deadline=None)
@given(
    st.lists(st.floats(LOWEST_S, 1e5), min_size=1, max_size=40),
    st.sampled_from(get_args(Method)),
)
def test_percentiles_of_few_values_are_numpys_too(values: list[float], method: Method) -> None:
    want = np.percentile(values, PERCENTS, method=method)
    np.testing.assert_allclose(percentiles(of(values), method), want, rtol=WIDTH)


def test_one_by_one_and_all_at_once_are_the_same() -> None:
    values = np.random.default_rng(2).exponential(0.1, 3000)
    one_by_one = Histogram()
    for value in values:
        one_by_one.add(float(value))
    assert told(one_by_one) == told(of(values))


def test_a_weight_counts_as_often() -> None:
    weighted, repeated = Histogram(), Histogram()
    for value, weight in ((0.5, 3), (0.1, 1), (0.2, 0), (2.0, 1500)):
        weighted.add(value, weight)
        for _ in range(weight):
            repeated.add(value)
    assert weighted.count == repeated.count == 1504
    assert weighted.spread() == repeated.spread()


def test_parts_merge_to_the_whole() -> None:
    values = np.random.default_rng(3).lognormal(-3, 2, 9000)
    whole, parts = of(values), [of(part) for part in np.split(values, 3)]
    joined = Histogram()
    for part in [*parts, Histogram()]:
        joined.merge(part)
    assert told(joined) == told(whole)
    assert joined.count == 9000


def test_histograms_of_different_buckets_do_not_merge() -> None:
    with pytest.raises(ValueError, match="5 bits do not go into 8"):
        Histogram().merge(Histogram(COARSE_BITS))


def test_a_histogram_comes_back_from_json() -> None:
    histogram = of([0.0, 0.004, 0.0041, 7.5])
    told = json.loads(json.dumps(histogram.to_json()))
    assert Histogram.from_json(told).spread() == histogram.spread()
    assert Histogram.from_json(Histogram().to_json()).spread() == Histogram().spread()


def test_nothing_has_no_figures() -> None:
    assert Histogram().spread() == Spread(0, None, None, None, None, None, None, None)
    assert [len(part) for part in Histogram().cdf()] == [0, 0]


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_what_is_no_duration_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no duration"):
        Histogram().add(value)
    with pytest.raises(ValueError, match="no durations"):
        _ = of([1.0, value]).sum


def test_a_percentage_beyond_a_hundred_is_refused() -> None:
    with pytest.raises(ValueError, match="101 is no percentage"):
        of([1.0]).percentile(101)


def test_values_out_of_range_share_the_last_buckets_and_keep_the_ends() -> None:
    histogram = of([0.0, 1e-9, 4 * HIGHEST_S, 8 * HIGHEST_S])
    assert (histogram.min, histogram.max) == (0.0, 8 * HIGHEST_S)
    assert histogram.percentile(100 / 3) == pytest.approx(0, abs=LOWEST_S)
    assert histogram.percentile(200 / 3) == pytest.approx(HIGHEST_S, rel=WIDTH)


def test_the_cdf_rises_from_the_least_to_all() -> None:
    values = np.random.default_rng(4).exponential(1, 5000)
    at, shares = of(values).cdf()
    assert (at[0], at[-1], shares[0], shares[-1]) == (values.min(), values.max(), 0, 1)
    assert (np.diff(at) >= 0).all()
    middle = len(at) // 2
    assert shares[middle] == pytest.approx((values <= at[middle]).mean(), abs=1e-9)


def test_coarse_buckets_are_near_enough_to_look_at() -> None:
    values = np.random.default_rng(5).lognormal(0, 1, 20_000)
    assert of(values, COARSE_BITS).percentile(95) == pytest.approx(
        np.percentile(values, 95), rel=2.0**-6
    )


def test_memory_is_that_of_the_octaves_however_many_values_come() -> None:
    rng = np.random.default_rng(6)
    histogram = of(2.0 ** rng.uniform(-25, 25, 10_000))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            histogram.extend(2.0 ** rng.uniform(-25, 25, 10_000))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert histogram.count == 1_010_000
    assert grown < 20_000


def test_what_came_since_a_copy() -> None:
    histogram = of([0.1, 0.2, 5.0])
    earlier = histogram.copy()
    histogram.extend(np.array([0.0001, 0.3, 0.4]))
    later = histogram.since(earlier)
    assert later.count == 3
    assert later.sum == pytest.approx(0.7001)
    assert later.min == 0.0001
    assert later.max == pytest.approx(0.4, rel=2 * WIDTH)
    assert later.percentile(50) == pytest.approx(0.3, rel=WIDTH)
    assert (histogram.count, earlier.count, earlier.max) == (6, 3, 5.0)


def test_nothing_since_a_copy() -> None:
    histogram = of([0.1, 0.2])
    assert histogram.since(histogram.copy()).spread() == Histogram().spread()
    assert histogram.since(Histogram()).spread() == histogram.spread()
