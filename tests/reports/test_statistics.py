"""Intervals, tests, areas and rates: against scipy, values by hand and closed forms; what too little data gives."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from vafa_monai.reports.statistics import (
    Interval,
    adjusted_p_values,
    area_under_curve,
    half_loss,
    mean_interval,
    paired_test,
    rate,
    smallest_p_value,
    volume_error,
)

DICE = [0.81, 0.92, 0.77, 0.95, 0.60, 0.88, 0.91]


def exact_p(differences):
    """Two-sided p of the signed-rank test by all signs."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    signs = np.array(list(itertools.product([0, 1], repeat=len(differences))))
    sums = signs @ ranks
    seen = sum(rank for rank, difference in zip(ranks, differences, strict=True) if difference > 0)
    return min(1.0, 2 * min((sums <= seen).mean(), (sums >= seen).mean()))


def test_interval_is_that_of_scipy():
    generator = np.random.default_rng(3)
    expected = bootstrap((np.array(DICE),), np.mean, method="BCa", random_state=generator).confidence_interval
    found = mean_interval([None, *DICE, None], seed=3)
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.mean == pytest.approx(sum(DICE) / 7)
    assert found.n == 7


def test_interval_holds_the_mean_and_is_the_same_again():
    found = mean_interval(DICE)
    assert found.low < found.mean < found.high
    assert found == mean_interval(DICE)
    assert found != mean_interval(DICE, seed=1)


def test_interval_of_many_cases_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(0.8, 0.1, 400)
    found = mean_interval(values.tolist())
    half = 1.96 * values.std() / math.sqrt(400)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.001)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Interval(mean=None, low=None, high=None, n=0)),
        ([None], Interval(mean=None, low=None, high=None, n=0)),
        ([0.4, None], Interval(mean=0.4, low=None, high=None, n=1)),
        ([0.1, 0.1, 0.1], Interval(mean=0.1, low=0.1, high=0.1, n=3)),
    ],
    ids=["nothing", "undefined", "one", "equal"],
)
def test_interval_of_too_little_is_defined(values, expected):
    assert mean_interval(values) == expected


def test_two_values_bound_their_interval():
    found = mean_interval([0.2, 0.4])
    assert (found.low, found.high) == pytest.approx((0.2, 0.4))


@pytest.mark.parametrize(
    "differences",
    [[0.1, 0.2, 0.3, 0.4, 0.5], [0.1, -0.2, 0.3, 0.4, 0.5, 0.6], [-0.1, 0.2, -0.3, 0.45]],
    ids=["all rise", "one falls", "mixed"],
)
def test_paired_test_is_the_count_of_all_signs(differences):
    test = paired_test([0.0] * len(differences), differences)
    assert test.p_value == pytest.approx(exact_p(differences))
    assert test.difference.mean == pytest.approx(sum(differences) / len(differences))


def test_paired_test_is_symmetric_and_leaves_undefined_pairs_out():
    first, second = [0.5, 0.6, None, 0.7], [0.6, 0.8, 0.9, 0.65]
    there, back = paired_test(first, second), paired_test(second, first)
    assert there.n == back.n == 3
    assert there.p_value == back.p_value
    assert there.difference.mean == pytest.approx(-back.difference.mean)


def test_values_that_differ_by_rounding_have_an_interval():
    third = [0.1 + 0.2, 0.3, 0.3]
    found = mean_interval(third)
    assert (found.low, found.high) == (third[0], third[0])


def test_equal_pairs_are_left_out_of_the_ranks():
    assert paired_test([0.5, 0.1, 0.2, 0.3], [0.5, 0.2, 0.4, 0.6]).p_value == pytest.approx(0.25)  # 2 / 2**3


@pytest.mark.parametrize(
    ("first", "second", "n", "p_value"),
    [([], [], 0, None), ([None], [0.5], 0, None), ([0.4], [0.5], 1, 1.0), ([0.4, 0.5], [0.4, 0.5], 2, 1.0)],
    ids=["no pair", "undefined", "one pair", "no difference"],
)
def test_paired_test_of_too_little_is_defined(first, second, n, p_value):
    test = paired_test(first, second)
    assert (test.n, test.p_value) == (n, p_value)


def test_pairs_of_different_length_are_refused():
    with pytest.raises(ValueError, match="second must have as many values as first, got 1 for 2"):
        paired_test([0.1, 0.2], [0.1])


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_smallest_p_is_that_of_cases_that_all_rise(n):
    rises = [0.01 * (1 + index) for index in range(n)]
    assert paired_test([0.0] * n, rises).p_value == pytest.approx(smallest_p_value(n))


def test_adjusted_p_values_by_hand():
    found = adjusted_p_values([0.01, 0.04, None, 0.03, 0.5])
    expected = [0.01 * 4, 0.04 * 4 / 3, None, 0.04 * 4 / 3, 0.5]  # 0.03 * 4 / 2 is more than the next
    assert found == [None if one is None else pytest.approx(one) for one in expected]


def test_no_p_values_are_left_as_they_are():
    assert adjusted_p_values([]) == []
    assert adjusted_p_values([None]) == [None]


def test_area_of_a_line_is_its_middle_and_of_a_step_its_part():
    assert area_under_curve([0, 10], [0.9, 0.3]) == pytest.approx(0.6)
    assert area_under_curve([0, 1, 3, 4], [1.0, 1.0, 0.0, 0.0]) == pytest.approx(0.5)


def test_area_follows_neither_scale_nor_order_and_skips_the_undefined():
    x, y = np.linspace(0, 8, 9), np.exp(-np.linspace(0, 8, 9) / 3)
    area = area_under_curve(x, y)
    assert area_under_curve(10 * x, y) == pytest.approx(area)
    assert area_under_curve(x[::-1], y[::-1]) == pytest.approx(area)
    assert area_under_curve([0, 5, 10], [0.9, None, 0.3]) == pytest.approx(0.6)
    assert area == pytest.approx(3 / 8 * (1 - math.exp(-8 / 3)), rel=0.01)  # the integral


@pytest.mark.parametrize(("x", "y"), [([], []), ([1], [0.5]), ([2, 2], [0.1, 0.3]), ([0, 1], [0.4, None])])
def test_area_without_width_is_undefined(x, y):
    assert area_under_curve(x, y) is None


def test_half_loss_lies_between_two_points():
    assert half_loss([0, 2, 4], [0.8, 0.5, 0.3]) == pytest.approx(3.0)
    assert half_loss([4, 0, 2], [0.3, 0.8, 0.5]) == pytest.approx(3.0)
    assert half_loss([0, 2], [0.8, 0.4]) == 2.0


@pytest.mark.parametrize(
    ("x", "y"),
    [([0, 4], [0.8, 0.5]), ([1, 4], [0.8, 0.1]), ([0, 4], [0.0, 0.0]), ([0], [None])],
    ids=["not so far", "not from 0", "nothing to lose", "undefined"],
)
def test_half_loss_that_is_not_there_is_undefined(x, y):
    assert half_loss(x, y) is None


def test_rates_and_volume_errors():
    assert (rate(2, 8), rate(0, 3), rate(0, 0)) == (0.25, 0, None)
    assert (volume_error(120, 100), volume_error(0, 100), volume_error(5, 0)) == (0.2, 1.0, None)
