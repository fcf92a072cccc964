"""p-values against a bound: where p is alpha the interval at alpha touches the bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.weightstats import DescrStatsW

from harness.stats import (
    ScoreError,
    Tails,
    mean_ratio,
    mean_ratio_tails,
    mean_tails,
    paired_mean,
    ratio_score,
    ratio_tails,
    tango,
    tango_tails,
    two_way_mean,
    two_way_tails,
)
from harness.stats.paired import difference_variance

pytestmark = pytest.mark.unit
counts = st.tuples(*[st.integers(0, 60)] * 4).filter(lambda table: sum(table) > 0)
bounds = st.floats(-0.6, -0.005)
quick = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 10_000)


def touches(tails: Tails, interval, bound: float) -> None:
    """At alpha = p of either side the bound of that side is ``bound``."""
    for p, side in ((tails.above, "low"), (tails.below, "high")):
        if 1e-6 < p < 0.499:
            assert getattr(interval(p), side) == pytest.approx(bound, abs=1e-7)


@quick
@given(counts, bounds)
def test_tango(table, bound):
    _, gained, lost, _ = table
    n = sum(table)
    assume((gained - lost) / n != bound)  # where it is, both sides have p = 1
    tails = tango_tails(lost, gained, n, bound)
    touches(tails, lambda alpha: tango(lost, gained, n, alpha), bound)
    excess, variance = (gained - lost) / n - bound, difference_variance(lost / n, gained / n, bound)
    assert tails.above == pytest.approx(norm.sf(excess * np.sqrt(n / variance)), abs=1e-12)


@quick
@given(counts.filter(lambda table: table[0] + table[2] > 0), st.floats(0.3, 1.0))
def test_ratio(table, bound):
    touches(ratio_tails(*table, bound), lambda alpha: ratio_score(*table, alpha), bound)


def matrix(seed: int, seed_sd: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    items, columns = int(rng.integers(3, 60)), int(rng.integers(5, 9))
    return np.clip(rng.normal(0, 0.3, (items, columns)) + rng.normal(0, seed_sd, columns), -1, 1)


@quick
@given(seeds, bounds)
def test_mean(seed, bound):
    values = matrix(seed).mean(axis=1)
    tails = mean_tails(values, bound)
    touches(tails, lambda alpha: paired_mean(values, alpha), bound)
    plain = DescrStatsW(values).ttest_mean(bound, "larger")[1]
    if values.mean() > bound:
        assert tails.above >= plain - 1e-12  # never less careful than t
    assert tails.above + tails.below == pytest.approx(1.0)


@quick
@given(seeds, bounds)
def test_two_way(seed, bound):
    table = matrix(seed)
    touches(two_way_tails(table, bound), lambda alpha: two_way_mean(table, alpha), bound)
    few = table[:, :3]
    touches(two_way_tails(few, bound), lambda alpha: two_way_mean(few, alpha), bound)


@quick
@example(103, 0.87622896482704)  # the search must not end where one of the two variances alone would accept
@given(seeds, st.floats(0.7, 1.0))
def test_mean_of_what_a_retention_leaves(seed, bound):
    rng = np.random.default_rng(seed)
    clean = (rng.random(80) < 0.8).astype(float)
    noisy = np.clip(clean * 0.85 + rng.normal(0, 0.1, 80), 0, 1)
    tails = mean_ratio_tails(noisy, clean, bound)
    touches(tails, lambda alpha: mean_ratio(noisy, clean, alpha), bound)


def test_the_least_half_width_bounds_p_where_nothing_differs():
    for n, decided in ((177, False), (178, True)):
        assert (tango_tails(0, 0, n, -0.015).above <= 0.05) is decided
        assert (mean_tails(np.zeros(n), -0.015).above <= 0.05) is decided


def test_by_seeds_it_takes_the_quantile_of_t():
    assert [two_way_tails(np.zeros((n, 5)), -0.015).above <= 0.05 for n in (178, 182)] == [False, True]


def test_no_evidence_decides_nothing():
    nothing = Tails(1.0, 1.0)
    assert tango_tails(0, 0, 0, -0.1) == tango_tails(0, 0, 10, 0.0) == nothing
    assert ratio_tails(0, 3, 0, 5, 0.9) == ratio_tails(9, 0, 0, 1, 1.0) == nothing
    assert mean_tails([0.5], -0.1) == mean_tails([], -0.1) == mean_tails([0.25, 0.25], 0.25) == nothing
    assert two_way_tails(np.zeros((1, 5)), -0.1) == two_way_tails(np.zeros((0, 0)), -0.1) == nothing


@pytest.mark.parametrize("tails", [mean_tails, two_way_tails])
def test_scores_that_are_no_differences_are_refused(tails):
    for bad in (2.0, float("nan")):
        with pytest.raises(ScoreError):
            tails(np.full((3,) if tails is mean_tails else (3, 5), bad), 0.0)
