"""The mean of skewed values: coverage where Student's t fails, and a stricter bound where the tail is hardly seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from harness.stats import ScoreError, SkewedMean, continuous_mean

pytestmark = pytest.mark.unit

ALPHA = 0.05
LONG_TAILS = {
    "exponential": (lambda rng, size: rng.exponential(1.0, size), 1.0),
    "gamma": (lambda rng, size: rng.gamma(0.5, 1.0, size), 0.5),
    "lognormal": (lambda rng, size: rng.lognormal(0.0, 1.0, size), math.exp(0.5)),
    "long lognormal": (lambda rng, size: rng.lognormal(0.0, 1.5, size), math.exp(1.125)),
    "mostly nothing": (lambda rng, size: rng.exponential(1.0, size) * (rng.random(size) < 0.1), 0.1),
}


def wrong_bounds(draw, mean, n, repetitions=3000):
    """Shares of samples whose bound lies on the wrong side of the true mean: upper, lower; and Student's upper."""
    rng = np.random.default_rng(7)
    upper = lower = student = 0
    for values in draw(rng, (repetitions, n)):
        found = SkewedMean.of(values).interval(ALPHA)
        upper += found.high < mean
        lower += found.low > mean
        student += continuous_mean(values, ALPHA).high < mean
    return upper / repetitions, lower / repetitions, student / repetitions


@pytest.mark.parametrize("name", LONG_TAILS)
def test_bounds_hold_where_students_do_not(name):
    draw, mean = LONG_TAILS[name]
    upper, lower, student = wrong_bounds(draw, mean, 100)
    error = 3 * math.sqrt(ALPHA * (1 - ALPHA) / 3000)
    assert upper <= 0.067 + error
    assert lower <= ALPHA + error
    assert student > 0.065, "the case would not tell the two apart"


def test_symmetric_values_give_students_interval():
    values = np.concatenate([np.arange(50.0), -np.arange(50.0)])
    ours, theirs = SkewedMean.of(values).interval(ALPHA), continuous_mean(values, ALPHA)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_the_interval_is_where_the_p_values_reach_alpha(alpha):
    found = SkewedMean.of(np.random.default_rng(0).exponential(1.0, 80))
    interval = found.interval(alpha)
    assert found.tails(interval.high).below == pytest.approx(alpha, rel=1e-6)
    assert found.tails(interval.low).above == pytest.approx(alpha, rel=1e-6)


def test_a_tail_that_is_hardly_seen_takes_a_tenth_of_alpha_on_its_side_alone():
    values = np.zeros(64)
    values[3] = 2.0
    found, mirrored = SkewedMean.of(values), SkewedMean.of(-values)
    assert found.items_needed > 64
    assert (found.tail, mirrored.tail) == (1, -1)
    assert replace(found, n=found.items_needed).tail == 0
    assert found.interval(ALPHA).high == pytest.approx(-mirrored.interval(ALPHA).low)
    bound = found.interval(0.005 * 10).high
    assert found.tails(bound).below == pytest.approx(0.05)
    assert found._bound(1, 0.005) == pytest.approx(bound)
    assert found.interval(ALPHA).low == pytest.approx(found._bound(-1, ALPHA))


def test_skewness_is_scipys():
    values = np.random.default_rng(1).gamma(1.0, 1.0, 40)
    assert SkewedMean.of(values).skewness == pytest.approx(stats.skew(values))


def test_rows_of_one_cluster_are_no_evidence_of_their_own():
    values = np.random.default_rng(2).exponential(1.0, 60)
    alone, again = SkewedMean.of(values), SkewedMean.of(np.repeat(values, 5), np.repeat(np.arange(60), 5))
    ours, theirs = alone.interval(ALPHA), again.interval(ALPHA)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert SkewedMean.of(np.repeat(values, 5)).interval(ALPHA).high < theirs.high


@pytest.mark.parametrize("values", [[], [0.3]])
def test_too_few_items_bound_nothing(values):
    found = SkewedMean.of(values).interval(ALPHA)
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert SkewedMean.of(values).tails(0.0).above == 1.0


def test_equal_values_are_their_own_bounds():
    found = SkewedMean.of([0.25] * 8)
    assert found.interval(ALPHA).high == found.interval(ALPHA).low == 0.25
    assert found.tails(0.3).below == 0.0
    assert found.tails(0.25).below == 1.0


def test_what_was_not_measured_is_refused():
    with pytest.raises(ScoreError, match="a score is a finite number"):
        SkewedMean.of([0.1, math.nan])
