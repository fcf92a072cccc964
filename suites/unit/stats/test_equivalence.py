"""Equivalence and non-inferiority."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from harness.stats import (
    ScoreError,
    equivalence_binary,
    equivalence_independent,
    equivalence_paired,
    non_inferiority_binary,
    non_inferiority_paired,
    tango,
)

pytestmark = pytest.mark.unit
counts = st.integers(0, 60)


def samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.normal(0, 1, 50), rng.normal(0.05, 1.2, 50)


@given(counts, counts, st.integers(1, 400), st.floats(0.005, 0.3), st.sampled_from([0.01, 0.05]))
def test_non_inferiority_is_what_tango_decides(lost: int, gained: int, rest: int, margin: float, alpha: float) -> None:
    n = lost + gained + rest
    found, interval = non_inferiority_binary(lost, gained, n, margin), tango(lost, gained, n, alpha)
    assume(abs(interval.low + margin) > 1e-9 and abs(interval.high - margin) > 1e-9)
    assert found.established(alpha) == (interval.low > -margin)
    both = equivalence_binary(lost, gained, n, margin)
    assert both.established(alpha) == (interval.low > -margin and interval.high < margin)


def test_tost_is_that_of_statsmodels() -> None:
    first, second = samples()
    assert equivalence_paired(first - second, 0.4).p_value == pytest.approx(
        float(ttost_paired(first, second, -0.4, 0.4)[0]), abs=1e-8
    )
    assert equivalence_independent(first, second, 0.4).p_value == pytest.approx(
        float(ttost_ind(first, second, -0.4, 0.4, usevar="unequal")[0]), abs=1e-8
    )


def test_non_inferiority_of_means_is_a_shifted_t_test() -> None:
    first, second = samples()
    expected = stats.ttest_1samp(first - second, -0.4, alternative="greater").pvalue
    assert non_inferiority_paired(first - second, 0.4).p_value == pytest.approx(expected, abs=1e-10)


def test_ten_equal_items_establish_nothing_and_178_do() -> None:
    assert not non_inferiority_binary(0, 0, 10, 0.015).established()
    assert not equivalence_binary(0, 0, 177, 0.015).established()
    assert equivalence_binary(0, 0, 178, 0.015).established()


@pytest.mark.parametrize("values", [[], [0.1], [0.0] * 10])
def test_without_spread_or_items_nothing_is_established(values: list[float]) -> None:
    found = [
        equivalence_paired(values, 0.1),
        non_inferiority_paired(values, 0.1),
        equivalence_independent(values, values, 0.1),
    ]
    for each in found:
        assert each.p_value is None
        assert not each.established()
        json.dumps(each.to_json(), allow_nan=False)
    assert equivalence_binary(0, 0, 0, 0.1).p_value is None
    assert non_inferiority_binary(0, 5, 5, 0.1).established()  # every pair gained


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
def test_a_margin_is_above_0(margin: float) -> None:
    with pytest.raises(ScoreError, match="a margin is above 0"):
        equivalence_paired([1, 2, 3], margin)
