"""Wilson's interval and the shared quantiles."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from harness.stats import Interval, wilson, zero_discordance
from harness.stats.quantiles import t_quantile, z_quantile

pytestmark = pytest.mark.unit


@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([0.01, 0.05, 0.1]))
def test_wilson_is_statsmodels_with_each_bound_one_sided(n: int, share: float, alpha: float) -> None:
    successes = round(share * n)
    low, high = proportion_confint(successes, n, alpha=2 * alpha, method="wilson")
    found = wilson(successes, n, alpha)
    assert found.estimate == successes / n
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert 0 <= found.low <= found.estimate + 1e-15
    assert found.estimate - 1e-15 <= found.high <= 1


def test_wilson_without_items_is_the_whole_range() -> None:
    found = wilson(0, 0)
    assert math.isnan(found.estimate)
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "n", "alpha"), [(3, 2, 0.05), (-1, 5, 0.05), (1, 5, 0.0), (1, 5, 0.5)])
def test_wilson_refuses_bad_arguments(successes: int, n: int, alpha: float) -> None:
    with pytest.raises(ValueError):
        wilson(successes, n, alpha)


def test_quantiles_are_the_upper_ones() -> None:
    assert z_quantile(0.05) == pytest.approx(stats.norm.isf(0.05), abs=1e-12)
    assert t_quantile(0.05, 7) == pytest.approx(stats.t.isf(0.05, 7), abs=1e-10)
    assert zero_discordance(0) == 1.0
    assert wilson(40, 40).low == pytest.approx(1 - zero_discordance(40), abs=1e-12)


def test_interval_json_is_strict() -> None:
    assert Interval(0.5, 0.25, 1.0).to_json() == {"estimate": 0.5, "low": 0.25, "high": 1.0}
    unknown = Interval(math.nan, -1.0, math.inf).to_json()
    assert unknown == {"estimate": None, "low": -1.0, "high": None}
    json.dumps(unknown, allow_nan=False)
