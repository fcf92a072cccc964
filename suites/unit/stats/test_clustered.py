"""Cluster-robust standard errors and the bootstrap that draws whole items."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS

from harness.stats import (
    ScoreError,
    bca_mean,
    cluster_bootstrap,
    cluster_standard_error,
    percentile_mean,
)
from harness.stats.bootstrap import PERCENTILE

pytestmark = pytest.mark.unit


def rows(seed: int, clusters: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Values in clusters of 1 to 6 rows that resemble each other."""
    rng = np.random.default_rng(seed)
    names = np.repeat(np.arange(clusters), rng.integers(1, 7, clusters))
    return rng.normal(0, 1, clusters)[names] + rng.normal(0, 0.3, len(names)), names


@pytest.mark.parametrize("seed", range(5))
def test_the_standard_error_is_that_of_statsmodels(seed: int) -> None:
    values, names = rows(seed)
    fit = OLS(values, np.ones((len(values), 1))).fit(cov_type="cluster", cov_kwds={"groups": names})
    assert cluster_standard_error(values, names) == pytest.approx(float(fit.bse[0]), abs=1e-8)


def test_rows_by_themselves_give_the_usual_standard_error() -> None:
    values, _ = rows(3)
    assert cluster_standard_error(values, np.arange(len(values))) == pytest.approx(stats.sem(values), abs=1e-12)


@pytest.mark.parametrize(("values", "names"), [([], []), ([0.5], ["a"]), ([0.5, 0.7], ["a", "a"])])
def test_below_two_clusters_nothing_is_known(values: list[float], names: list[str]) -> None:
    assert cluster_standard_error(values, names) == math.inf
    assert cluster_bootstrap(values, names).degenerate


def test_one_cluster_name_is_needed_for_each_row() -> None:
    with pytest.raises(ScoreError, match="3 rows and clusters of shape"):
        cluster_standard_error([1, 2, 3], [0, 1])


def test_the_cluster_bootstrap_of_single_rows_is_the_ordinary_one() -> None:
    values = np.random.default_rng(1).normal(size=80)
    ours = cluster_bootstrap(values, np.arange(80), method=PERCENTILE, resamples=4000)
    plain = percentile_mean(values, resamples=4000)
    assert (ours.low, ours.high) == pytest.approx((plain.low, plain.high), abs=0.03)
    assert ours == cluster_bootstrap(values, np.arange(80), method=PERCENTILE, resamples=4000)


def test_the_cluster_bootstrap_draws_whole_items() -> None:
    item = np.random.default_rng(2).normal(size=60)
    values, names = np.repeat(item, 20), np.repeat(np.arange(60), 20)
    ours = cluster_bootstrap(values, names, resamples=2000)
    of_items, of_rows = bca_mean(item, resamples=2000), bca_mean(values, resamples=500)
    assert (ours.low, ours.high) == pytest.approx((of_items.low, of_items.high), abs=0.05)
    assert ours.high - ours.low > 3 * (of_rows.high - of_rows.low)


def test_an_unknown_bootstrap_is_refused() -> None:
    with pytest.raises(ScoreError, match="it is one of BCa, percentile"):
        cluster_bootstrap([1, 2], [0, 1], method="basic")


def test_percentile_and_bca_are_those_of_scipy() -> None:
    values = np.random.default_rng(4).exponential(size=60)
    for ours, method in ((percentile_mean, "percentile"), (bca_mean, "BCa")):
        seeds = np.random.default_rng(0)
        theirs = stats.bootstrap((values,), np.mean, n_resamples=9000, confidence_level=0.9, method=method, rng=seeds)
        found = ours(values, resamples=9000)
        interval = theirs.confidence_interval
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.02)


def test_tiny_samples_never_give_nan() -> None:
    for size in range(2, 6):
        for right in range(size + 1):
            values = np.repeat([1.0, 0.0], [right, size - right])
            for interval in (bca_mean, percentile_mean):
                found = interval(values, resamples=50)
                assert found.low <= found.estimate <= found.high
                assert found.degenerate == (right in (0, size)) or found.low == found.high
