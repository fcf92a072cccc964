"""Rewards, log-likelihoods and perplexity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.regression.linear_model import WLS
from statsmodels.stats.weightstats import DescrStatsW

from harness.stats import (
    ScoreError,
    ScoreRange,
    continuous_mean,
    paired_mean,
    perplexity_ratio,
    score_mean,
    zero_discordance,
)
from harness.stats.checks import DIFFERENCES, FRACTIONS

pytestmark = pytest.mark.unit


def test_it_is_the_t_interval_without_a_range() -> None:
    values = np.random.default_rng(0).standard_t(4, 70) * 12 - 3
    low, high = DescrStatsW(values).tconfint_mean(alpha=0.10)
    found = continuous_mean(values)
    assert (found.estimate, found.low, found.high) == pytest.approx((values.mean(), low, high), abs=1e-8)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=40))
def test_with_the_range_of_fractions_it_is_the_interval_of_the_gate(values: list[float]) -> None:
    ours, gate = continuous_mean(values, limits=DIFFERENCES), paired_mean(values)
    assert (ours.low, ours.high) == pytest.approx((gate.low, gate.high), abs=1e-9)
    scores = np.abs(values)
    ours, gate = continuous_mean(scores, limits=FRACTIONS), score_mean(scores)
    assert (ours.low, ours.high) == pytest.approx((gate.low, gate.high), abs=1e-9)


def test_a_declared_range_bounds_what_equal_values_leave_open() -> None:
    reward = ScoreRange(-10, 10)
    found = continuous_mean([2.0] * 30, limits=reward)
    assert (found.low, found.high) == pytest.approx((2 - 20 * zero_discordance(30), 2 + 20 * zero_discordance(30)))
    assert continuous_mean([10.0] * 30, limits=reward).high == 10
    assert continuous_mean([0.0] * 30, limits=reward.differences).high == pytest.approx(20 * zero_discordance(30))


def test_equal_values_without_a_range_bound_nothing() -> None:
    found = continuous_mean([0.1] * 30)
    assert (found.estimate, found.low, found.high) == (pytest.approx(0.1), -math.inf, math.inf)
    assert math.isnan(continuous_mean([]).estimate)
    assert continuous_mean([3.0]).low == -math.inf


def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    tokens = rng.integers(5, 50, 80).astype(float)
    second = -2.0 * tokens + rng.normal(0, 2, 80)
    return second - 0.05 * tokens + rng.normal(0, 1, 80), second, tokens


def test_the_perplexity_ratio_is_exact_and_its_interval_that_of_a_regression() -> None:
    first, second, tokens = sample()
    found = perplexity_ratio(first, second, tokens)
    assert found is not None
    assert found.estimate == pytest.approx(
        math.exp(-first.sum() / tokens.sum()) / math.exp(-second.sum() / tokens.sum()), rel=1e-12
    )
    # a weighted regression through the origin has the ratio estimator as its slope; HC1 is its sandwich
    fit = WLS(second - first, tokens, weights=1 / tokens).fit(cov_type="HC1", use_t=True)
    low, high = fit.conf_int(0.10)[0]
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((low, high), abs=1e-8)


def test_exchanging_the_arms_inverts_the_ratio() -> None:
    first, second, tokens = sample()
    one, other = perplexity_ratio(first, second, tokens), perplexity_ratio(second, first, tokens)
    assert one is not None
    assert other is not None
    assert (1 / other.high, 1 / other.estimate, 1 / other.low) == pytest.approx((one.low, one.estimate, one.high))


def test_degenerate_perplexities_have_a_state() -> None:
    assert perplexity_ratio([], [], []) is None
    for items in (1, 4):
        same = perplexity_ratio([-5.0] * items, [-5.0] * items, [3] * items)
        assert same is not None
        assert (same.estimate, same.low, same.high) == (1.0, 0.0, math.inf)
    with pytest.raises(ScoreError, match="every item has at least one"):
        perplexity_ratio([-1.0], [-1.0], [0])
    with pytest.raises(ScoreError, match="2 items on one side and 1 on the other"):
        perplexity_ratio([-1.0, -2.0], [-1.0], [3])
