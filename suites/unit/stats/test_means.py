"""Intervals from per-item means over seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.weightstats import DescrStatsW

from harness.stats import (
    mean_ratio,
    mean_ratio_tails,
    paired_mean,
    ratio_score,
    score_mean,
    tango,
    zero_discordance,
)

pytestmark = pytest.mark.unit


def draws(seed: int, n: int, p: float) -> np.ndarray:
    return np.random.default_rng(seed).binomial(5, p, size=n) / 5


def null_half(values: np.ndarray, side: float, alpha: float, ends: tuple[float, float] = (-1.0, 1.0)) -> float:
    """Distance of the bound by the variance under the null, by a general optimiser over distributions."""
    known, counts = np.unique(np.concatenate([values, ends]), return_counts=True)
    counts = counts - np.isin(known, ends)

    def statistic(mean: float) -> float:
        likeliest = optimize.minimize(
            lambda p: -float(counts @ np.log(np.maximum(p, 1e-300))),
            np.full(len(known), 1 / len(known)),
            jac=lambda p: -counts / np.maximum(p, 1e-300),
            bounds=[(0, 1)] * len(known),
            constraints=[
                {"type": "eq", "fun": lambda p: p.sum() - 1, "jac": np.ones_like},
                {"type": "eq", "fun": lambda p: p @ known - mean, "jac": lambda p: known},
            ],
            options={"maxiter": 500, "ftol": 1e-13},
        ).x
        variance = float(likeliest @ (known - mean) ** 2)
        return abs(values.mean() - mean) - stats.norm.isf(alpha) * math.sqrt(variance / len(values))

    end = values.mean() + side * 0.3
    return abs(optimize.brentq(statistic, values.mean() + side * 1e-4, end, xtol=1e-7) - values.mean())


@pytest.mark.parametrize(("seed", "p"), [(1, 0.75), (5, 0.9), (9, 0.7)])
def test_paired_mean_takes_the_larger_of_two_variances(seed: int, p: float) -> None:
    values = draws(seed, 60, 0.7) - draws(seed + 1, 60, p)
    low, _ = DescrStatsW(values).tconfint_mean(alpha=0.10)
    half = [max(values.mean() - low, null_half(values, side, 0.05)) for side in (-1.0, 1.0)]
    found = paired_mean(values)
    assert found.estimate == pytest.approx(values.mean())
    assert (found.estimate - found.low, found.high - found.estimate) == pytest.approx(half, abs=2e-5)


@example(1, 1, 58, 0.01)  # a search must not end where the largest tilt is just accepted
@example(1, 1, 27, 0.05)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(2, 400), st.sampled_from([0.05, 0.01]))
def test_where_all_seeds_agree_it_is_tango_or_t(lost: int, gained: int, same: int, alpha: float) -> None:
    """Tango's interval, wider only where the sample's own variance is larger."""
    values = np.repeat([-1.0, 1.0, 0.0], [lost, gained, same])
    found, single = paired_mean(values, alpha), tango(lost, gained, len(values), alpha)
    half = half_width(values, alpha)
    assert found.low == pytest.approx(max(-1.0, min(single.low, found.estimate - half)), abs=1e-9)
    assert found.high == pytest.approx(min(1.0, max(single.high, found.estimate + half)), abs=1e-9)


def test_few_items_lost_whole_leave_more_open_than_their_own_spread_says() -> None:
    values = np.zeros(200)
    values[:3] = -1.0
    assert values.mean() - half_width(values, 0.05) > -0.03 > paired_mean(values).low


def test_clusters_widen_by_what_their_items_share() -> None:
    values = np.repeat(draws(3, 50, 0.7) - draws(4, 50, 0.8), 4)
    alone, together = paired_mean(values), paired_mean(values, clusters=np.repeat(np.arange(50), 4))
    single = paired_mean(values[::4])
    assert (together.low, together.high) == pytest.approx((single.low, single.high), abs=2e-3)
    assert together.high - together.low > 1.9 * (alone.high - alone.low)
    own = paired_mean(values, clusters=[f"item {i}" for i in range(200)])
    assert (own.low, own.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    assert paired_mean(values, clusters=np.zeros(200)).low == -1.0  # one cluster shows nothing


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

    estimate = noisy.mean() / clean.mean()
    assert found.estimate == pytest.approx(estimate)
    for bound in (found.low, found.high):
        values = noisy - bound * clean
        own = half_width(values, alpha)
        known = values - values.mean()
        assert abs(values.mean()) >= own - 1e-9
        null = abs(values.mean()) / stats.norm.isf(alpha)  # the standard error if only the null variance decides
        touches = abs(values.mean()) - own < 1e-9 or null**2 * n > float((known**2).mean())
        assert touches, (bound, own, null)
    assert mean_ratio_tails(noisy, clean, found.low).above == pytest.approx(alpha, abs=1e-7)
    assert mean_ratio_tails(noisy, clean, found.high).below == pytest.approx(alpha, abs=1e-7)


def test_mean_ratio_without_any_change_keeps_the_floor() -> None:
    clean = np.repeat([1.0, 0.0], [90, 10])
    found = mean_ratio(clean, clean)
    assert found is not None
    floor, score = zero_discordance(100) / 0.9, ratio_score(90, 0, 0, 10)
    assert (found.low, found.estimate) == pytest.approx((min(score.low, 1 - floor), 1.0))
    assert found.high == pytest.approx(max(score.high, 1 + floor))


def test_mean_ratio_is_undefined_where_the_clean_mean_may_be_zero() -> None:
    assert mean_ratio([0.0] * 20, [0.0] * 20) is None
    assert mean_ratio([1.0] * 20, [1.0] + [0.0] * 19) is None
    assert mean_ratio([0.04] * 20, [0.05] * 20) is None  # no spread, but below what zero discordance leaves open
    assert mean_ratio([1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]) is None  # above that, but its t interval holds 0
    assert mean_ratio([1.0], [1.0]) is None
    assert mean_ratio([], []) is None
    with pytest.raises(ValueError):
        mean_ratio([1.0, 0.5], [1.0])
