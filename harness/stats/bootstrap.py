"""The bootstrap that is reported beside the deciding interval and never decides."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from harness.stats.checks import Floats, ScoreError, vector
from harness.stats.clustered import cluster_sums
from harness.stats.interval import Interval
from harness.stats.quantiles import check_alpha

_BATCH_CELLS = 1_000_000
"""Resampled values held at once (8 MB), whatever the number of items."""

_DISTINCT = 256
"""Up to this many distinct values, of more items than that, counts are resampled in place of items."""

BCA, PERCENTILE = "BCa", "percentile"
METHODS = (BCA, PERCENTILE)


@dataclass(frozen=True)
class BootstrapInterval(Interval):
    """A bootstrap interval; ``degenerate`` where all values are equal, so that its zero width says nothing."""

    degenerate: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what :class:`Interval` returns, with ``degenerate``."""
        return {**super().to_json(), "degenerate": self.degenerate}


def private_generator(seed: int, label: str) -> np.random.Generator:
    """Return a generator of its own for each (seed, label); the global state is neither read nor changed."""
    digest = hashlib.sha256(label.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:16], "little")])


def bca_mean(
    differences: ArrayLike, alpha: float = 0.05, seed: int = 0, resamples: int = 10_000, label: str = ""
) -> BootstrapInterval:
    """Return the BCa bootstrap interval of the mean (fraction) over items, each bound one-sided at ``alpha``.

    ``differences`` is 1-D with one entry per item (items are the clusters: all seeds of one item move together).
    Equal input gives equal output, bit for bit. Values that are all equal (also one, or none: estimate NaN) have
    no bootstrap: the bounds equal the estimate and ``degenerate`` is set. Raises ``ValueError`` unless the input
    is 1-D and finite. Source: Efron (1987), JASA 82, 171-185, as in scipy.
    """
    return _bootstrap_mean(differences, alpha, BCA, resamples, private_generator(seed, label))


def percentile_mean(
    differences: ArrayLike, alpha: float = 0.05, seed: int = 0, resamples: int = 10_000, label: str = ""
) -> BootstrapInterval:
    """Do as :func:`bca_mean` with the percentile method, which is too narrow for few items; kept to show that.

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13, as in scipy.
    """
    return _bootstrap_mean(differences, alpha, PERCENTILE, resamples, private_generator(seed, label))


def _bootstrap_mean(
    differences: ArrayLike, alpha: float, method: str, resamples: int, rng: np.random.Generator
) -> BootstrapInterval:
    check_alpha(alpha)
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"differences of shape {values.shape}; one finite number per item is needed")
    estimate = float(values.mean()) if len(values) else math.nan
    if len(values) < 2 or float(np.ptp(values)) < 1e-12:
        return BootstrapInterval(estimate, estimate, estimate, degenerate=True)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _DISTINCT < len(values):
        return _of(estimate, _counted(distinct, counts, alpha, method, resamples, rng))
    found = _scipy_bootstrap((values,), np.mean, alpha, method, resamples, rng)
    return _of(estimate, found)


def _counted(
    distinct: Floats, counts: NDArray[np.int64], alpha: float, method: str, resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Both bounds where few values are distinct: how often each is drawn is multinomial, so that a resample costs as
    many numbers as there are values, not items. The jackknife of a mean has a closed form."""
    n = int(counts.sum())
    means = rng.multinomial(n, counts / n, size=resamples) @ distinct / n
    estimate = float(counts @ distinct) / n
    shares = np.array([alpha, 1 - alpha])
    if method == BCA:
        apart = distinct - estimate
        skew = float(counts @ apart**3) / (6 * float(counts @ apart**2) ** 1.5)
        below = ((means < estimate - 1e-12).mean() + (means <= estimate + 1e-12).mean()) / 2
        bias = float(special.ndtri(below))
        points = bias + special.ndtri(shares)
        shares = special.ndtr(bias + points / (1 - skew * points))
    low, high = np.quantile(means, np.clip(shares, 0.0, 1.0)) if np.isfinite(shares).all() else (np.nan, np.nan)
    return float(low), float(high)


def ratio_bootstrap(
    sums: ArrayLike, sizes: ArrayLike, alpha: float = 0.05, seed: int = 0, resamples: int = 10_000, label: str = "ratio"
) -> BootstrapInterval:
    """Return the BCa bootstrap interval of sum(``sums``) / sum(``sizes``), both 1-D with an entry per cluster, which
    are drawn together; each bound is one-sided at ``alpha``.

    Clusters that are all alike, one, or none are ``degenerate``. Raises ``ValueError`` for entries that are not finite,
    sizes that are not above 0, or other lengths. Source: as :func:`cluster_bootstrap`.
    """
    check_alpha(alpha)
    totals, widths = (np.asarray(each, dtype=np.float64) for each in (sums, sizes))
    sound = totals.ndim == 1 and totals.shape == widths.shape and bool(np.isfinite(totals).all())
    if not sound or not np.isfinite(widths).all() or (widths <= 0).any():
        raise ValueError(f"sums of shape {totals.shape} over sizes of shape {widths.shape}, one finite pair a cluster")
    estimate = float(totals.sum() / widths.sum()) if len(totals) else math.nan
    if len(totals) < 2 or float(np.ptp(totals / widths)) < 1e-12:
        return BootstrapInterval(estimate, estimate, estimate, degenerate=True)

    def ratio(total: Floats, size: Floats, axis: int = -1) -> Floats:
        found: Floats = total.sum(axis=axis) / size.sum(axis=axis)
        return found

    return _of(
        estimate, _scipy_bootstrap((totals, widths), ratio, alpha, BCA, resamples, private_generator(seed, label))
    )


def cluster_bca(
    values: ArrayLike, clusters: ArrayLike, alpha: float, seed: int, resamples: int, label: str
) -> BootstrapInterval:
    """Return :func:`bca_mean` that draws whole ``clusters``, see :func:`cluster_bootstrap`."""
    return cluster_bootstrap(values, clusters, alpha, BCA, seed, resamples, label)


def _scipy_bootstrap(
    data: tuple[Floats, ...],
    statistic: Callable[..., Any],
    alpha: float,
    method: str,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Both bounds; ``data`` are resampled together, item by item. NaN where the resamples allow no correction."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            data,
            statistic,
            n_resamples=resamples,
            batch=max(1, _BATCH_CELLS // len(data[0])),
            vectorized=True,
            paired=len(data) > 1,
            confidence_level=1 - 2 * alpha,
            method=method,
            rng=rng,
        ).confidence_interval
    return float(found.low), float(found.high)


def _of(estimate: float, bounds: tuple[float, float]) -> BootstrapInterval:
    """The interval; degenerate at the estimate where a bound is not a number."""
    if not all(math.isfinite(bound) for bound in bounds):
        return BootstrapInterval(estimate, estimate, estimate, degenerate=True)
    return BootstrapInterval(estimate, *bounds)


def cluster_bootstrap(
    values: ArrayLike,
    clusters: ArrayLike,
    alpha: float = 0.05,
    method: str = BCA,
    seed: int = 0,
    resamples: int = 10_000,
    label: str = "clusters",
) -> BootstrapInterval:
    """Return the bootstrap of the mean of ``values`` (rows,) that draws whole ``clusters`` (rows,): all rows of an item
    together.

    Clusters may differ in size. ``method`` is :data:`BCA` or :data:`PERCENTILE`. Clusters that are all alike, one
    cluster, or none are ``degenerate``. Raises :class:`ScoreError` on NaN, unequal lengths, or another method.
    Source: Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8, as in scipy (``paired``).
    """
    check_alpha(alpha)
    if method not in METHODS:
        raise ScoreError(f"method {method!r}", f"it is one of {', '.join(METHODS)}", f"use {BCA}")
    rows = vector(values, "values")
    sums, sizes = cluster_sums(rows, clusters)
    estimate = float(rows.mean()) if len(rows) else math.nan
    if len(sums) < 2 or float(np.ptp(sums / sizes)) < 1e-12:
        return BootstrapInterval(estimate, estimate, estimate, degenerate=True)

    def mean(total: Floats, size: Floats, axis: int = -1) -> Floats:
        found: Floats = total.sum(axis=axis) / size.sum(axis=axis)
        return found

    found = _scipy_bootstrap((sums, sizes), mean, alpha, method, resamples, private_generator(seed, label))
    return _of(estimate, found)
