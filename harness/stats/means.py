"""Intervals from per-item means over several noise seeds whose draws are independent between items."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.stats.interval import Interval
from harness.stats.quantiles import check_alpha, t_quantile, zero_discordance


def _values(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} of shape {array.shape}; one finite number per item is needed")
    return array


def mean_half_width(sd: float, n: int, alpha: float) -> float:
    """max(t * sd / sqrt(n), z^2/(n + z^2)) with n - 1 degrees of freedom; infinite below two items."""
    if n < 2:
        return math.inf
    return max(t_quantile(alpha, n - 1) * sd / math.sqrt(n), zero_discordance(n, alpha))


def _bounded_mean(values: NDArray[np.float64], alpha: float, lowest: float) -> Interval:
    n = len(values)
    estimate = float(values.mean()) if n else math.nan
    if n < 2:
        return Interval(estimate, lowest, 1.0)
    half = mean_half_width(float(values.std(ddof=1)), n, alpha)
    return Interval(estimate, max(lowest, estimate - half), min(1.0, estimate + half))


def paired_mean(differences: ArrayLike, alpha: float = 0.05) -> Interval:
    """Student's t interval of the mean of per-item differences (fractions in [-1, 1]), ``alpha`` per bound.

    ``differences`` has one entry per item: the difference of that item's means over seeds. The half-width never
    falls below z^2/(n + z^2), what zero discordance leaves open. One item gives the bounds -1 and 1, none the
    estimate NaN too. Raises ``ValueError`` unless the input is 1-D and finite.
    """
    check_alpha(alpha)
    return _bounded_mean(_values(differences, "differences"), alpha, -1.0)


def score_mean(scores: ArrayLike, alpha: float = 0.05) -> Interval:
    """As :func:`paired_mean`, for per-item accuracies (fractions in [0, 1]), with bounds inside [0, 1]."""
    check_alpha(alpha)
    return _bounded_mean(_values(scores, "scores"), alpha, 0.0)


def _fieller(noisy: NDArray[np.float64], clean: NDArray[np.float64], t: float) -> tuple[float, float] | None:
    """The ratios r with |mean(noisy - r * clean)| <= t * standard error; ``None`` where they are unbounded."""
    n = len(noisy)
    covariance = np.cov(noisy, clean, ddof=1) * t * t / n
    top, bottom = float(noisy.mean()), float(clean.mean())
    a = bottom**2 - float(covariance[1, 1])
    b = top * bottom - float(covariance[0, 1])
    c = top**2 - float(covariance[0, 0])
    if a <= 0:
        return None
    root = math.sqrt(max(0.0, b * b - a * c))
    return (b - root) / a, (b + root) / a


def mean_ratio(noisy: ArrayLike, clean: ArrayLike, alpha: float = 0.05) -> Interval | None:
    """Retention mean(noisy) / mean(clean) over the same items, ``alpha`` per bound.

    Holds the ratios r at which mean(noisy) - r * mean(clean) = 0 is not rejected, by Student's t with n - 1
    degrees of freedom and a half-width of at least z^2/(n + z^2) on the mean. Both inputs are 1-D, one accuracy
    (fraction) per item, in the same order. Returns ``None`` where undefined: fewer than two items, or a clean
    mean that cannot be told from 0. Raises ``ValueError`` on inputs of different length.
    Source: Fieller (1954), Journal of the Royal Statistical Society B 16, 175-185.
    """
    check_alpha(alpha)
    top, bottom = _values(noisy, "noisy"), _values(clean, "clean")
    if len(top) != len(bottom):
        raise ValueError(f"{len(top)} noisy and {len(bottom)} clean items; both must hold the same items")
    n = len(top)
    clean_mean = float(bottom.mean()) if n else 0.0
    floor = zero_discordance(n, alpha)
    if n < 2 or clean_mean <= floor:
        return None
    bounds = _fieller(top, bottom, t_quantile(alpha, n - 1))
    if bounds is None:
        return None
    estimate = float(top.mean()) / clean_mean
    # Both sets contain the estimate, so their union is an interval.
    low = min(bounds[0], estimate - floor / clean_mean)
    high = max(bounds[1], estimate + floor / clean_mean)
    return Interval(estimate, max(0.0, low), high)
