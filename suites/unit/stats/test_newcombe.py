"""Newcombe's interval, and Tango's beside it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from harness.stats import newcombe, tango

pytestmark = pytest.mark.unit
counts = st.integers(0, 80)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),  # Newcombe (1998), table III, method 10, 95 %
        ((1, 1, 7, 12), -0.507, -0.026),  # Bentur et al. in Fagerland, Lydersen and Laake (2014)
    ],
)
def test_newcombe_matches_published_intervals(table: tuple[int, ...], low: float, high: float) -> None:
    found = newcombe(*table, alpha=0.025)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5 if table[0] == 36 else 6e-4)


def test_without_correlation_it_is_the_square_and_add_of_two_wilson_intervals() -> None:
    n11, n10, n01, n00 = 20, 20, 20, 20  # no association at all
    low, high = proportion_confint(40, 80, alpha=0.10, method="wilson")
    found = newcombe(n11, n10, n01, n00)
    assert found.high == pytest.approx(math.hypot(high - 0.5, 0.5 - low), abs=1e-10)
    assert found.low == pytest.approx(-found.high, abs=1e-10)


@given(counts, counts, counts, counts)
def test_newcombe_is_ordered_mirrors_and_stays_inside(n11: int, n10: int, n01: int, n00: int) -> None:
    found = newcombe(n11, n10, n01, n00)
    if n11 + n10 + n01 + n00 == 0:
        assert math.isnan(found.estimate)
        assert (found.low, found.high) == (-1.0, 1.0)
        return
    assert -1 <= found.low <= found.estimate <= found.high <= 1
    mirrored = newcombe(n11, n01, n10, n00)
    assert (-mirrored.high, -mirrored.low) == pytest.approx((found.low, found.high), abs=1e-12)


@given(st.integers(100, 300), st.integers(10, 40), st.integers(10, 40), st.integers(50, 100))
def test_newcombe_and_tango_agree_where_there_is_enough_to_see(n11: int, n10: int, n01: int, n00: int) -> None:
    n = n11 + n10 + n01 + n00
    cross, deciding = newcombe(n11, n10, n01, n00), tango(n01, n10, n)
    assert (cross.low, cross.high) == pytest.approx((deciding.low, deciding.high), abs=0.02)


def test_newcombe_refuses_bad_counts() -> None:
    with pytest.raises(ValueError):
        newcombe(1, -1, 0, 0)
