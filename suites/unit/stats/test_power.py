"""What a run can tell, and the items that would decide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from harness.stats import (
    MAX_ITEMS,
    items_needed_mean,
    items_needed_paired,
    items_needed_ratio,
    minimum_detectable_effect,
    paired_mean,
    ratio_score,
    tango,
    zero_discordance,
)

pytestmark = pytest.mark.unit


def decides(low: float, high: float, bound: float) -> bool:
    return low > bound or high < bound


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 300), st.floats(0.005, 0.2))
def test_items_needed_is_the_first_scaled_table_that_tango_decides(
    lost: int, gained: int, rest: int, margin: float
) -> None:
    n = lost + gained + rest
    needed = items_needed_paired(lost, gained, n, margin)
    assume(needed is not None and 1 < needed < 200_000)
    assert needed is not None

    def decided(items: int) -> bool:
        found = tango(lost * items / n, gained * items / n, items)
        return decides(found.low, found.high, -margin)

    assert decided(needed)
    assert not decided(needed - 1)


def test_ten_equal_items_leave_a_margin_of_a_point_and_a_half_open_and_178_do_not() -> None:
    assert items_needed_paired(0, 0, 10, 0.015) == 178
    assert items_needed_mean(0.0, 0.0, 0.015) == 178
    assert tango(0, 0, 177).low < -0.015 < tango(0, 0, 178).low


@given(st.integers(5, 100), st.integers(0, 20), st.integers(0, 20), st.integers(0, 50), st.floats(0.5, 1.0))
def test_items_needed_for_the_ratio(n11: int, n10: int, n01: int, n00: int, minimum: float) -> None:
    n = n11 + n10 + n01 + n00
    needed = items_needed_ratio(n11, n10, n01, n00, minimum)
    assume(needed is not None and 1 < needed < 200_000)
    assert needed is not None

    def decided(items: int) -> bool:
        found = ratio_score(*(count * items / n for count in (n11, n10, n01, n00)))
        assert found is not None
        return decides(found.low, found.high, minimum)

    assert decided(needed)
    assert not decided(needed - 1)


@given(st.floats(-0.3, 0.3), st.floats(0.0, 0.6), st.floats(0.005, 0.2))
def test_items_needed_for_means_is_the_first_n_whose_interval_excludes_the_margin(
    estimate: float, sd: float, margin: float
) -> None:
    needed = items_needed_mean(estimate, sd, margin)
    assume(needed is not None and 3 < needed < 5000)
    assert needed is not None

    def decided(items: int) -> bool:
        shape = np.linspace(-1, 1, items)
        values = shape / np.std(shape, ddof=1) * sd + estimate  # exactly this mean and spread
        half = max(stats.t.isf(0.05, items - 1) * np.std(values, ddof=1) / items**0.5, zero_discordance(items))
        return bool(half < abs(estimate + margin))

    assert decided(needed)
    assert not decided(needed - 1)


def test_nothing_finite_decides_at_the_margin_or_very_near_it() -> None:
    assert items_needed_paired(3, 0, 100, 0.03) is None
    assert items_needed_paired(30_001, 0, 1_000_000, 0.03) is None
    assert items_needed_paired(0, 0, 0, 0.03) is None
    assert items_needed_mean(-0.03, 0.2, 0.03) is None
    assert items_needed_mean(-0.030001, 0.2, 0.03) is None
    assert items_needed_ratio(9, 0, 1, 0, 0.9) is None
    assert items_needed_ratio(0, 0, 0, 0, 0.9) is None
    far = items_needed_mean(-0.0301, 0.05, 0.03)
    assert far is not None
    assert 500_000 < far < MAX_ITEMS


def test_minimum_detectable_effect_has_the_promised_power() -> None:
    n, sd = 200, 0.4
    effect = minimum_detectable_effect(sd, n, power=0.8)
    rng = np.random.default_rng(11)
    told = np.mean([paired_mean(np.clip(rng.normal(-effect, sd, n), -1, 1)).high < 0 for _ in range(1500)])
    assert 0.76 < told < 0.84


def test_minimum_detectable_effect_keeps_the_floor_and_the_edges() -> None:
    assert minimum_detectable_effect(0.0, 100) == pytest.approx(zero_discordance(100))
    assert minimum_detectable_effect(0.3, 100, power=0.5) == pytest.approx(stats.t.isf(0.05, 99) * 0.03)
    assert minimum_detectable_effect(0.3, 1) == minimum_detectable_effect(0.3, 0) == 1.0
    assert minimum_detectable_effect(0.3, 400) < minimum_detectable_effect(0.3, 100)
    with pytest.raises(ValueError):
        minimum_detectable_effect(-0.1, 100)
    with pytest.raises(ValueError):
        minimum_detectable_effect(0.1, 100, power=1.0)
