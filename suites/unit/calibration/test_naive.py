"""Intervals that do not hold, as their formulas say, so that what they fail at is theirs and not a slip."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from harness.calibration.naive import pooled_rows, wald, wald_difference, wald_ratio

pytestmark = pytest.mark.unit


def test_wald_is_that_of_statsmodels_and_has_no_width_at_the_edges() -> None:
    found = wald(30, 100)
    assert (found.low, found.high) == pytest.approx(proportion_confint(30, 100, alpha=0.1, method="normal"), abs=1e-9)
    for edge in (wald(0, 10), wald(10, 10), wald_difference(0, 0, 10)):
        assert edge.low == edge.high == edge.estimate


def test_the_paired_difference_is_a_mean_of_its_pairs() -> None:
    values = np.repeat([-1.0, 1.0, 0.0], [8, 3, 89])
    half = stats.norm.isf(0.05) * values.std() / 10
    found = wald_difference(8, 3, 100)
    assert (found.estimate, found.high - found.estimate) == pytest.approx((values.mean(), half))


def test_the_ratio_needs_right_answers_on_both_sides() -> None:
    found = wald_ratio(70, 5, 10)
    assert found is not None and found.estimate == pytest.approx(75 / 80)
    assert found.low * found.high == pytest.approx(found.estimate**2), "symmetric on the logarithmic scale"
    assert wald_ratio(0, 0, 10) is None and wald_ratio(0, 5, 0) is None


def test_pooled_rows_take_every_row_for_an_item() -> None:
    scores = np.random.default_rng(0).random((20, 5))
    found = pooled_rows(scores)
    assert found.high - found.estimate == pytest.approx(stats.norm.isf(0.05) * stats.sem(scores.ravel()))
