"""Score intervals of the paired difference and the paired ratio."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.proportion import _confint_riskratio_paired_nam

from harness.stats import Interval, ratio_score, tango

pytestmark = pytest.mark.unit
Z = float(stats.norm.isf(0.05))
counts = st.integers(0, 200)


def bounds(found: Interval | None) -> tuple[float, float, float]:
    assert found is not None
    return found.estimate, found.low, found.high


def tango_statistic(lost: float, gained: float, n: float, delta: float) -> float:
    """Tango (1998), equations 10 and 11, as printed there."""
    a, b = 2 * n, -gained - lost + (2 * n - gained + lost) * delta
    q = (math.sqrt(b * b + 4 * a * lost * delta * (1 - delta)) - b) / (2 * a)
    return (gained - lost - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))


def ratio_statistic(n11: float, n10: float, n01: float, n00: float, ratio: float) -> float:
    """The score statistic of the ratio, its restricted estimate found by maximising the likelihood numerically."""
    n = n11 + n10 + n01 + n00
    some = (n11 + n10 + n01) / n
    # p11 + p10 = ratio * (p11 + p01) and p11 + p10 + p01 = some leave p01 free.
    low, high = max(0.0, (1 - ratio) * some), some / (1 + ratio)

    def loss(p01: float) -> float:
        p10 = (p01 - (1 - ratio) * some) / ratio
        cells = ((n11, some - p01 - p10), (n10, p10), (n01, p01))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

    p01 = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    p10 = (p01 - (1 - ratio) * some) / ratio
    return (n11 + n10 - ratio * (n11 + n01)) / math.sqrt(n * ratio * (p10 + p01))


@pytest.mark.parametrize(
    ("lost", "gained", "n", "low", "high"),
    [
        (16, 6, 161, -0.1240, -0.0054),  # Cavo et al. in Fagerland, Lydersen and Laake (2017), 95 %, Tango
        (7, 1, 21, -0.517, -0.026),  # Bentur et al. in Fagerland, Lydersen and Laake (2014), 95 %, Tango
    ],
)
def test_tango_matches_published_intervals(lost: int, gained: int, n: int, low: float, high: float) -> None:
    found = tango(lost, gained, n, alpha=0.025)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-4 if n == 21 else 6e-5)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [((59, 6, 16, 80), 0.7476, 0.9876), ((1, 1, 7, 12), 0.065, 0.907)],  # the same two data sets, Tang
)
def test_ratio_matches_published_intervals(table: tuple[int, int, int, int], low: float, high: float) -> None:
    found = ratio_score(*table, alpha=0.025)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-4 if table[0] == 1 else 6e-5)


@pytest.mark.parametrize(("lost", "gained", "n"), [(5, 3, 40), (0, 4, 30), (4, 0, 30), (1, 1, 2), (12, 12, 24)])
def test_tango_holds_exactly_the_differences_that_are_not_rejected(lost: int, gained: int, n: int) -> None:
    grid = np.linspace(-0.9999, 0.9999, 20001)
    kept = [delta for delta in grid if abs(tango_statistic(lost, gained, n, delta)) <= Z]
    found = tango(lost, gained, n)
    assert (found.low, found.high) == pytest.approx((kept[0], kept[-1]), abs=1e-4)


@given(counts, counts, counts)
def test_tango_bounds_solve_the_score_equation_and_mirror(lost: int, gained: int, rest: int) -> None:
    n = lost + gained + rest
    assume(lost and gained)
    found = tango(lost, gained, n)
    assert -1 <= found.low < found.estimate < found.high <= 1
    assert tango_statistic(lost, gained, n, found.low) == pytest.approx(Z, abs=1e-6)
    assert tango_statistic(lost, gained, n, found.high) == pytest.approx(-Z, abs=1e-6)
    mirrored = tango(gained, lost, n)
    assert (-mirrored.high, -mirrored.low) == pytest.approx((found.low, found.high), abs=1e-12)


@given(st.integers(1, 10**6), st.sampled_from([0.01, 0.05]))
def test_without_discordance_the_half_width_is_the_closed_form(n: int, alpha: float) -> None:
    z2 = float(stats.norm.isf(alpha)) ** 2
    found = tango(0, 0, n, alpha)
    assert found.estimate == 0
    assert found.high == -found.low == pytest.approx(z2 / (n + z2), rel=1e-12)


def test_degenerate_tables_of_the_difference() -> None:
    nothing = tango(0, 0, 0)
    assert math.isnan(nothing.estimate)
    assert (nothing.low, nothing.high) == (-1.0, 1.0)
    z2 = Z * Z
    assert bounds(tango(1, 0, 1)) == pytest.approx((-1.0, -1.0, (z2 - 1) / (z2 + 1)))
    assert bounds(tango(0, 5, 5)) == pytest.approx((1.0, (5 - z2) / (5 + z2), 1.0))
    assert tango_statistic(0, 5, 5, tango(0, 5, 5).low) == pytest.approx(Z)


def test_every_small_table_has_an_ordered_interval() -> None:
    for n in range(1, 7):
        for lost, gained in itertools.product(range(n + 1), repeat=2):
            if lost + gained <= n:
                found = tango(lost, gained, n)
                assert -1 <= found.low <= found.estimate <= found.high <= 1
                assert found.high - found.low > 0.1, (lost, gained, n)


@pytest.mark.parametrize(("lost", "gained", "n"), [(3, 3, 5), (-1, 0, 5), (0, 0, -1), (math.nan, 0, 5)])
def test_tango_refuses_counts_that_do_not_fit(lost: float, gained: float, n: float) -> None:
    with pytest.raises(ValueError):
        tango(lost, gained, n)


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 60), counts)
def test_ratio_agrees_with_the_polynomial_form_of_nam(n11: int, n10: int, n01: int, n00: int) -> None:
    found = ratio_score(n11, n10, n01, n00)
    low, high = _confint_riskratio_paired_nam([n11, n10, n01, n00], alpha=0.10).confint
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low.real, high.real), abs=1e-8)


@pytest.mark.parametrize("table", [(20, 3, 5, 12), (50, 0, 4, 3), (50, 4, 0, 3), (9, 1, 8, 0), (0, 3, 4, 5)])
def test_ratio_bounds_solve_the_score_equation(table: tuple[int, int, int, int]) -> None:
    found = ratio_score(*table)
    assert found is not None
    assert found.low < found.estimate < found.high
    assert ratio_statistic(*table, found.low) == pytest.approx(Z, abs=2e-4)
    assert ratio_statistic(*table, found.high) == pytest.approx(-Z, abs=2e-4)


@given(counts, counts, counts, counts)
def test_ratio_is_ordered_and_inverts_when_the_sides_are_exchanged(n11: int, n10: int, n01: int, n00: int) -> None:
    found = ratio_score(n11, n10, n01, n00)
    if n11 + n01 == 0:
        assert found is None
        return
    assert found is not None
    assert 0 <= found.low <= found.estimate <= found.high < math.inf
    back = ratio_score(n11, n01, n10, n00)
    if back is not None and n11 + n10:
        assert (1 / back.high, 1 / back.low) == pytest.approx((found.low, found.high), rel=1e-6)


def test_degenerate_tables_of_the_ratio() -> None:
    z2 = Z * Z
    assert ratio_score(0, 3, 0, 4) is None
    assert ratio_score(0, 0, 0, 0) is None
    assert bounds(ratio_score(40, 0, 0, 10)) == pytest.approx((1.0, 40 / (40 + z2), (40 + z2) / 40))
    assert bounds(ratio_score(0, 0, 8, 2)) == pytest.approx((0.0, 0.0, z2 / 8))
    with pytest.raises(ValueError):
        ratio_score(1, -1, 0, 0)


def test_each_bound_misses_about_as_often_as_alpha() -> None:
    rng = np.random.default_rng(5)
    p11, p10, p01 = 0.70, 0.04, 0.10
    tables = rng.multinomial(150, [p11, p10, p01, 1 - p11 - p10 - p01], size=1500)
    difference, ratio = p10 - p01, (p11 + p10) / (p11 + p01)
    missed = np.zeros(4)
    for n11, n10, n01, n00 in tables:
        first, second = tango(n01, n10, 150), ratio_score(n11, n10, n01, n00)
        assert second is not None
        missed += [first.low > difference, first.high < difference, second.low > ratio, second.high < ratio]
    # 5 % with a standard error of 0.56 points; a two-sided 5 % would give 2.5 %
    assert missed / 1500 == pytest.approx(np.full(4, 0.05), abs=0.017)
