"""Intervals, tests and what a set could show: by hand, by invariants, and by simulation."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from training.evaluation.metrics import Floats, Metric, mean_metric
from training.evaluation.proportions import Flips, detectable_difference, mcnemar_p
from training.evaluation.results import Comparison
from training.evaluation.scorers.classification import macro_f1
from training.evaluation.scorers.json_fields import f1_of
from training.evaluation.statistics import compare, estimate

VALUES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30)
RIGHTS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def right(values: object) -> Metric:
    return mean_metric("m", "higher", np.asarray(values, dtype=np.float64), binary=True)


def graded(values: object) -> Metric:
    return mean_metric("m", "higher", np.asarray(values, dtype=np.float64), bounds=(0, 1))


def flips(both: int, gained: int, lost: int, neither: int) -> Comparison:
    candidate = [1] * both + [1] * gained + [0] * lost + [0] * neither
    other = [1] * both + [0] * gained + [1] * lost + [0] * neither
    return compare(right(candidate), right(other))


def test_wilson_by_the_book() -> None:
    # Newcombe 1998, table I: 81 of 263 and 0 of 20.
    found = estimate(right([1] * 81 + [0] * 182))
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    found = estimate(right([0] * 20))
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(0.1611, abs=1e-4)


def test_mcnemar_and_its_interval_by_the_book() -> None:
    # Bonett and Price 2012, as ratio of discordant pairs: 12 gained, 2 lost of 100.
    found = flips(50, 12, 2, 36)
    assert found.difference == pytest.approx(0.1)
    assert found.p_value == pytest.approx(binomtest(2, 14).pvalue)
    half = 1.959964 * math.sqrt((16 / 102 - (10 / 102) ** 2) / 102)
    assert found.low == pytest.approx(10 / 102 - half)
    assert found.high == pytest.approx(10 / 102 + half)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (6, 0), (7, 1), (10, 10), (0, 9)])
def test_mcnemar_is_the_binomial_test_of_the_flips(gained: int, lost: int) -> None:
    expected = 1.0 if gained + lost == 0 else binomtest(gained, gained + lost).pvalue
    assert mcnemar_p(Flips(100, gained, lost)) == pytest.approx(expected)


def test_the_interval_reaches_0_where_the_exact_test_sees_no_difference() -> None:
    unsure = flips(100, 20, 9, 100)
    assert (unsure.p_value or 0) > 0.05
    assert unsure.low == 0
    assert (flips(90, 6, 0, 4).low or 0) > 0


def test_a_mean_agrees_with_students_interval() -> None:
    values = np.random.default_rng(3).beta(2, 2, 200)
    found = estimate(graded(values))
    half = 1.972 * values.std(ddof=1) / math.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.004)
    assert found.high == pytest.approx(values.mean() + half, abs=0.004)


def test_the_same_metrics_give_the_same_figures_every_time() -> None:
    random = np.random.default_rng(0)
    one, other = graded(random.random(50)), graded(random.random(50))
    assert compare(one, other) == compare(one, other)
    assert estimate(one) == estimate(one)


@given(VALUES)
@settings(max_examples=15, deadline=None)
def test_graded_figures_keep_their_bounds_and_turn_with_the_models(
    pairs: list[tuple[float, float]],
) -> None:
    one, other = graded([a for a, _ in pairs]), graded([b for _, b in pairs])
    alone = estimate(one)
    assert alone.low is not None
    assert alone.high is not None
    assert 0 <= alone.low <= alone.high <= 1
    there, back = compare(one, other), compare(other, one)
    assert there.difference == pytest.approx(-(back.difference or 0), abs=1e-12)
    assert there.p_value is not None
    assert 0 < there.p_value <= 1
    assert there.p_value == pytest.approx(back.p_value, rel=1e-6)
    assert there.low == pytest.approx(-(back.high or 0), abs=1e-9)


@given(RIGHTS)
@settings(max_examples=30, deadline=None)
def test_right_or_wrong_figures_hold_together(pairs: list[tuple[bool, bool]]) -> None:
    one, other = right([a for a, _ in pairs]), right([b for _, b in pairs])
    alone = estimate(one)
    assert alone.value is not None
    assert alone.low is not None
    assert alone.high is not None
    assert 0 <= alone.low <= alone.value <= alone.high <= 1
    found = compare(one, other)
    assert found.low is not None
    assert found.high is not None
    assert found.p_value is not None
    assert found.low <= (found.difference or 0) <= found.high
    if found.low > 0 or found.high < 0:
        assert found.p_value <= 0.05


def test_items_that_all_agree_leave_room_for_others() -> None:
    found = estimate(graded([1.0] * 20))
    assert found.value == 1
    assert found.low == pytest.approx(1 - (1 - 0.025 ** (1 / 20)))
    same = compare(graded([0.5] * 20), graded([0.5] * 20))
    assert (same.difference, same.p_value) == (0, 1)
    assert same.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert (same.detectable or 0) > 0.1


def test_a_clear_constant_difference_is_significant() -> None:
    found = compare(graded([0.75] * 50), graded([0.25] * 50))
    assert (found.p_value or 1) < 0.01
    assert found.low == pytest.approx(0.5 - (1 - 0.025 ** (1 / 50)))


def test_few_items_that_differ_leave_room_for_others() -> None:
    base = np.full(20, 0.5)
    better = base.copy()
    better[0] = 0.6
    found = compare(graded(better), graded(base))
    assert found.high == pytest.approx(0.005 + 1 - 0.025 ** (1 / 20))
    assert (found.low or 0) < -0.1


def test_five_items_that_differ_are_not_significant_whatever_the_metric() -> None:
    base = np.full(100, 0.5)
    for differing, significant in ((5, False), (6, True)):
        better = np.where(np.arange(100) < differing, 0.9, base)
        found = compare(graded(better), graded(base))
        assert ((found.p_value or 0) < 0.05) is significant
        assert ((found.low or 0) > 0) is significant
        unbounded = compare(mean_metric("m", "higher", better), mean_metric("m", "higher", base))
        assert ((unbounded.low or 0) > 0) is significant


def test_as_much_gained_as_lost_is_no_difference() -> None:
    base = np.full(100, 0.5)
    other = base.copy()
    other[0], other[1] = 0.9, 0.1
    assert (compare(graded(other), graded(base)).p_value or 0) > 0.9


def test_what_is_undefined_is_none() -> None:
    empty = Metric("m", "higher", np.zeros((5, 3)), f1_of)
    assert estimate(empty).value is None
    assert compare(empty, empty).difference is None
    nothing = right([])
    assert estimate(nothing).value is None
    assert compare(nothing, nothing).difference is None
    one = estimate(graded([0.5]))
    assert (one.value, one.low) == (0.5, None)


def test_a_figure_that_most_resamples_lack_has_no_interval() -> None:
    stats = np.zeros((30, 3))
    stats[0] = 1
    found = estimate(Metric("m", "higher", stats, f1_of))
    assert found.value == 1
    assert found.low is None


def test_unknown_items_are_left_out_of_both() -> None:
    found = compare(right([1, 1, np.nan, 0]), right([0, 1, 1, np.nan]))
    assert found.difference == pytest.approx(0.5)


def test_models_judged_on_different_items_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="different items"):
        compare(right([1]), right([1, 0]))


def test_a_set_that_no_difference_could_convince_has_no_detectable_one() -> None:
    assert detectable_difference(Flips(5, 0, 0)) is None
    assert detectable_difference(Flips(20, 0, 0)) is not None


def test_more_items_detect_less() -> None:
    found = [detectable_difference(Flips(n, n // 20, n // 20)) for n in (40, 100, 400, 2000)]
    known = [one for one in found if one is not None]
    assert len(known) == 4
    assert known == sorted(known, reverse=True)
    # By the usual approximation: 2.8 standard errors.
    assert known[3] == pytest.approx(2.8 * math.sqrt(0.12 / 2000), rel=0.1)


def test_power_at_the_detectable_difference_is_80_percent() -> None:
    random = np.random.default_rng(5)
    for items, lost in ((100, 4), (400, 19)):
        difference = detectable_difference(Flips(items, items, lost - 1))
        assert difference is not None
        against = lost / (items + 2)
        shares = [against + difference, against, 1 - 2 * against - difference]
        drawn = random.multinomial(items, shares, size=1500)
        shown = [mcnemar_p(Flips(items, gained, fewer)) <= 0.05 for gained, fewer, _ in drawn]
        assert 0.76 < np.mean(shown) < 0.86


def drawn_pair(random: np.random.Generator, items: int, gain: float) -> tuple[Metric, Metric]:
    """Two models whose mean scores differ by `gain`; most items score the same."""
    base = random.beta(0.5, 0.5, items)
    moved = random.normal(gain / 0.6, 0.2, items) * (random.random(items) < 0.6)
    return graded(base + moved), graded(base)


def test_a_graded_difference_is_covered_and_shown_as_promised() -> None:
    random = np.random.default_rng(6)
    runs, items = 200, 60
    same = [compare(*drawn_pair(random, items, 0.0)) for _ in range(runs)]
    assert np.mean([(one.p_value or 0) < 0.05 for one in same]) < 0.09
    detectable = float(np.median([one.detectable or 0 for one in same]))
    better = [compare(*drawn_pair(random, items, detectable)) for _ in range(runs)]
    covered = [(one.low or 0) <= detectable <= (one.high or 0) for one in better]
    assert 0.91 < np.mean(covered) < 0.99
    assert 0.72 < np.mean([(one.p_value or 1) < 0.05 for one in better]) < 0.88


def class_counts(truth: NDArray[Any], answers: NDArray[Any]) -> Floats:
    stats = np.zeros((len(truth), 3, 20))
    rows = np.arange(len(truth))
    stats[rows, 2, truth] = 1
    stats[rows, 1, answers] = 1
    stats[rows, 0, truth] = truth == answers
    return stats.reshape(len(truth), -1)


def test_a_macro_f1_of_few_items_a_class_is_not_found_different_by_chance() -> None:
    random = np.random.default_rng(7)
    found = []
    for _ in range(150):
        truth = random.integers(0, 20, 50)
        answers = (
            np.where(random.random(50) < 0.85, truth, random.integers(0, 20, 50)) for _ in "ab"
        )
        models = [Metric("m", "higher", class_counts(truth, one), macro_f1) for one in answers]
        found.append(compare(*models))
    assert np.mean([(one.p_value or 0) < 0.05 for one in found]) < 0.1
