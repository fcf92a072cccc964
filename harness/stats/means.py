"""Intervals from per-item means over several noise seeds whose draws are independent between items."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from harness.stats.checks import DIFFERENCES, FRACTIONS, Floats, ScoreRange, same_items, vector
from harness.stats.interval import Interval
from harness.stats.quantiles import check_alpha, t_quantile, zero_discordance
from harness.stats.units import Units


def mean_half_width(sd: float, n: int, alpha: float) -> float:
    """Return max(t * sd / sqrt(n), z^2/(n + z^2)) with n - 1 degrees of freedom; infinite below two items.

    What planning goes by: the interval itself is wider where few items make up the mean.
    """
    if n < 2:
        return math.inf
    return max(t_quantile(alpha, n - 1) * sd / math.sqrt(n), zero_discordance(n, alpha))


def bounded_mean(values: Floats, alpha: float, limits: ScoreRange, clusters: ArrayLike | None = None) -> Interval:
    """Return the mean of checked ``values`` (items,) inside ``limits``; below two items, or clusters, the bounds are
    those."""
    estimate = float(values.mean()) if len(values) else math.nan
    if len(values) < 2:
        return Interval(estimate, limits.low, limits.high)
    units = Units.of_scores(values[:, None], limits, clusters)
    if units.worth < 2:
        return Interval(estimate, limits.low, limits.high)
    return Interval(estimate, *units.bounds(alpha, limits))


def paired_mean(differences: ArrayLike, alpha: float = 0.05, clusters: ArrayLike | None = None) -> Interval:
    """Return the interval of the mean of per-item differences (fractions in [-1, 1]), ``alpha`` per bound.

    ``differences`` has one entry per item: the difference of that item's means over seeds. The variance is the larger
    of the sample's, with Student's t, and the one under the tested mean, with which the bound is Tango's where every
    difference is -1, 0 or 1 (:class:`harness.stats.units.Units`). The half-width never falls below z^2/(n + z^2), what
    zero discordance leaves open. With ``clusters`` (items,) items of one cluster may move together.
    One item or cluster gives the bounds -1 and 1, none the estimate NaN too. Raises :class:`ScoreError` unless the
    input is 1-D and in range.
    """
    check_alpha(alpha)
    return bounded_mean(vector(differences, "differences", DIFFERENCES), alpha, DIFFERENCES, clusters)


def score_mean(scores: ArrayLike, alpha: float = 0.05, clusters: ArrayLike | None = None) -> Interval:
    """Do as :func:`paired_mean`, for per-item accuracies (fractions in [0, 1]), with bounds inside [0, 1]."""
    check_alpha(alpha)
    return bounded_mean(vector(scores, "scores", FRACTIONS), alpha, FRACTIONS, clusters)


def mean_ratio(
    noisy: ArrayLike, clean: ArrayLike, alpha: float = 0.05, clusters: ArrayLike | None = None
) -> Interval | None:
    """Return the retention mean(noisy) / mean(clean) over the same items, ``alpha`` per bound.

    Holds the ratios r at which mean(noisy) - r * mean(clean) = 0 is not rejected, by the test of :func:`paired_mean`.
    Both inputs are 1-D, one accuracy (fraction) per item, in the same order. Returns ``None`` where undefined: fewer
    than two items, or a clean mean that cannot be told from 0. Raises :class:`ScoreError` on unequal lengths.
    Source: Fieller (1954), Journal of the Royal Statistical Society B 16, 175-185.
    """
    check_alpha(alpha)
    top, bottom = vector(noisy, "noisy", FRACTIONS), vector(clean, "clean", FRACTIONS)
    same_items(top, bottom)
    if len(top) < 2:
        return None
    units = Units.of_ratio(top[:, None], bottom, clusters)
    bounds = units.ratio_bounds(alpha)
    return None if bounds is None else Interval(units.estimate, *bounds)
