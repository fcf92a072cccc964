"""How much items of one cluster move together: the intra-cluster correlation, and what it does to a variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.stats.checks import ScoreError, vector
from harness.stats.clustered import cluster_sums
from harness.stats.interval import Interval
from harness.stats.quantiles import check_alpha


def intraclass(values: ArrayLike, clusters: ArrayLike, alpha: float = 0.025) -> Interval:
    """Return the intra-cluster correlation of ``values`` (items,) with its interval of one-sided ``alpha``.

    The estimator of the one-way analysis of variance, which may be below 0; the interval inverts its F test with the
    mean cluster size n0 and is exact for normal values in equal clusters. Values that do not differ have 0.
    Raises :class:`ScoreError` on NaN, fewer than two clusters, or no cluster of two items.
    Source: Searle (1971), Linear Models, section 9.8; Donner (1986), International Statistical Review 54, 67-82.
    """
    check_alpha(alpha)
    rows = vector(values, "values")
    sums, sizes = cluster_sums(rows, clusters)
    count, total = len(sizes), len(rows)
    if count < 2 or count == total:
        raise ScoreError(
            f"{total} items in {count} clusters", "two clusters and one of two items are needed", "group the items"
        )
    means = sums / sizes
    between = float((sizes * (means - rows.mean()) ** 2).sum()) / (count - 1)
    within = max(0.0, float(rows @ rows - sizes @ means**2)) / (total - count)
    size = float(total - (sizes @ sizes) / total) / (count - 1)
    if within <= 1e-12 * max(1.0, between):
        return Interval(*(3 * (1.0 if between > 1e-12 else 0.0,)))
    ratio = between / within
    wide = float(stats.f.ppf(1 - alpha, count - 1, total - count))
    narrow = float(stats.f.ppf(alpha, count - 1, total - count))
    estimate, low, high = ((f - 1) / (f + size - 1) for f in (ratio, ratio / wide, ratio / narrow))
    return Interval(estimate, low, high)


def design_effect(correlation: float, clusters: ArrayLike) -> float:
    """Return by how much clusters multiply the variance of a mean, at least 1, where the items of one cluster have
    this ``correlation`` (a negative one counts as 0): 1 + (m - 1) * correlation, m the cluster size of an average item.

    Source: Kish (1965), Survey Sampling, section 5.4.
    """
    _, sizes = np.unique(np.asarray(clusters), return_counts=True)
    size = float(sizes @ sizes) / float(sizes.sum())
    return 1.0 + (size - 1.0) * min(1.0, max(0.0, correlation))


def effective_clusters(clusters: ArrayLike) -> float:
    """Return as how many equal clusters ``clusters`` (items,) count: (sum of sizes)^2 / sum of squared sizes."""
    _, sizes = np.unique(np.asarray(clusters), return_counts=True)
    return equal_sizes(sizes)


def equal_sizes(sizes: ArrayLike) -> float:
    """Return as how many of one size clusters of these ``sizes`` (clusters,) count: (sum)^2 / sum of squares."""
    found = np.asarray(sizes, dtype=np.float64)
    return float(found.sum()) ** 2 / float(found @ found)
