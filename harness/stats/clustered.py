"""Rows that belong together: sums and standard errors with the items (or runs) they come from as clusters."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.stats.checks import Floats, ScoreError, ScoreRange, vector
from harness.stats.interval import Interval
from harness.stats.quantiles import zero_discordance


def _codes(clusters: ArrayLike, rows: int) -> tuple[NDArray[np.intp], int]:
    names = np.asarray(clusters)
    if names.shape != (rows,):
        raise ScoreError(f"{rows} rows and clusters of shape {names.shape}", "every row has one cluster", "name it")
    found, codes = np.unique(names, return_inverse=True)
    return codes, len(found)


def cluster_sums(values: Floats, clusters: ArrayLike) -> tuple[Floats, Floats]:
    """Return (sum of values, number of rows) of every cluster, in ascending order of its name."""
    codes, count = _codes(clusters, len(values))
    sums = np.bincount(codes, weights=values, minlength=count).astype(np.float64)
    return sums, np.bincount(codes, minlength=count).astype(np.float64)


def cluster_standard_error(values: ArrayLike, clusters: ArrayLike) -> float:
    """Return the standard error of the mean of ``values`` (rows,), robust to any dependence within ``clusters``
    (rows,).

    The sandwich estimator with the correction G / (G - 1) for G clusters, as statsmodels' OLS on a constant with
    ``cov_type='cluster'``. Infinite below two clusters. Raises :class:`ScoreError` on NaN or unequal lengths. Source:
    Liang and Zeger (1986), Biometrika 73, 13-22.
    """
    rows = vector(values, "values")
    centred = rows - rows.mean() if len(rows) else rows
    sums, _ = cluster_sums(centred, clusters)
    if len(sums) < 2:
        return math.inf
    return math.sqrt(float(np.square(sums).sum()) * len(sums) / (len(sums) - 1)) / len(rows)


def bounded(estimate: float, half: float, n: int, alpha: float, limits: ScoreRange) -> Interval:
    """Return ``estimate`` -/+ ``half``, never narrower than zero discordance among ``n`` leaves open, inside
    ``limits``.

    For fractions and their differences the least half-width is z^2/(n + z^2); other finite ranges scale it by the most
    that one item can change. Without a range and without spread nothing bounds the mean: infinite bounds.
    """
    if math.isfinite(limits.width):
        half = max(half, limits.most * zero_discordance(n, alpha))
    elif half == 0:
        return Interval(estimate, limits.low, limits.high)
    return Interval(estimate, max(limits.low, estimate - half), min(limits.high, estimate + half))
