"""Intervals from per-item means over seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.weightstats import DescrStatsW

from harness.stats import mean_ratio, paired_mean, score_mean, tango, zero_discordance

pytestmark = pytest.mark.unit


def draws(seed: int, n: int, p: float) -> np.ndarray:
    return np.random.default_rng(seed).binomial(5, p, size=n) / 5


def test_paired_mean_is_the_t_interval() -> None:
    values = draws(1, 60, 0.7) - draws(2, 60, 0.75)
    low, high = DescrStatsW(values).tconfint_mean(alpha=0.10)
    found = paired_mean(values)
    assert (found.estimate, found.low, found.high) == pytest.approx((values.mean(), low, high), abs=1e-10)


@given(st.integers(2, 2000), st.sampled_from([0.01, 0.05]))
def test_without_spread_the_half_width_is_that_of_zero_discordance(n: int, alpha: float) -> None:
    found, single = paired_mean(np.zeros(n), alpha), tango(0, 0, n, alpha)
    assert (found.low, found.high) == pytest.approx((single.low, single.high), abs=1e-12)


def test_little_spread_is_widened_to_the_floor() -> None:
    values = np.zeros(100)
    values[0] = 0.2
    found = paired_mean(values)
    assert found.high - found.estimate == pytest.approx(zero_discordance(100))


def test_none_and_one_item_leave_the_whole_range() -> None:
    assert (paired_mean([0.2]).estimate, paired_mean([0.2]).low, paired_mean([0.2]).high) == (0.2, -1.0, 1.0)
    assert math.isnan(paired_mean([]).estimate)
    assert paired_mean([]).low == -1.0
    assert (score_mean([1.0]).low, score_mean([]).high) == (0.0, 1.0)


def test_bounds_stay_in_range() -> None:
    assert paired_mean([-1.0, -1.0, -0.8]).low == -1.0
    assert score_mean(np.ones(30)).high == 1.0
    assert score_mean(np.ones(30)).low == pytest.approx(1 - zero_discordance(30))


@pytest.mark.parametrize("values", [[0.1, math.nan], [[0.1, 0.2]]])
def test_means_refuse_what_is_not_one_number_per_item(values: list[float]) -> None:
    with pytest.raises(ValueError):
        paired_mean(values)


def half_width(values: np.ndarray, alpha: float) -> float:
    """The half-width written independently: the t interval, or the zero-discordance floor."""
    n, z2 = len(values), float(stats.norm.isf(alpha)) ** 2
    return max(float(stats.t.isf(alpha, n - 1)) * float(stats.sem(values)), z2 / (n + z2))


@pytest.mark.parametrize(("n", "p_noisy", "p_clean", "alpha"), [(80, 0.7, 0.8, 0.05), (25, 0.3, 0.6, 0.025)])
def test_mean_ratio_holds_the_ratios_that_are_not_rejected(
    n: int, p_noisy: float, p_clean: float, alpha: float
) -> None:
    noisy, clean = draws(3, n, p_noisy), draws(4, n, p_clean)
    found = mean_ratio(noisy, clean, alpha)
    assert found is not None

    def excess(ratio: float) -> float:
        values = noisy - ratio * clean
        return abs(float(values.mean())) - half_width(values, alpha)

    estimate = noisy.mean() / clean.mean()
    low, high = optimize.brentq(excess, 0, estimate), optimize.brentq(excess, estimate, 5)
    assert (found.estimate, found.low, found.high) == pytest.approx((estimate, low, high), abs=1e-8)


def test_mean_ratio_without_any_change_keeps_the_floor() -> None:
    clean = np.repeat([1.0, 0.0], [90, 10])
    found = mean_ratio(clean, clean)
    assert found is not None
    floor = zero_discordance(100) / 0.9
    assert (found.low, found.estimate, found.high) == pytest.approx((1 - floor, 1.0, 1 + floor))


def test_mean_ratio_is_undefined_where_the_clean_mean_may_be_zero() -> None:
    assert mean_ratio([0.0] * 20, [0.0] * 20) is None
    assert mean_ratio([1.0] * 20, [1.0] + [0.0] * 19) is None
    assert mean_ratio([0.04] * 20, [0.05] * 20) is None  # no spread, but below what zero discordance leaves open
    assert mean_ratio([1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]) is None  # above that, but its t interval holds 0
    assert mean_ratio([1.0], [1.0]) is None
    assert mean_ratio([], []) is None
    with pytest.raises(ValueError):
        mean_ratio([1.0, 0.5], [1.0])
