"""Continuous scores: rewards, log-likelihoods, perplexity. The caller declares their range."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.checks import REAL, ScoreError, ScoreRange, same_items, vector
from harness.stats.interval import Interval
from harness.stats.means import bounded_mean
from harness.stats.quantiles import check_alpha, t_quantile


def continuous_mean(values: ArrayLike, alpha: float = 0.05, limits: ScoreRange = REAL) -> Interval:
    """Return Student's t interval of the mean of ``values`` (items,), one-sided ``alpha`` per bound, in score units.

    ``limits`` is the range of ``values``: with one, the interval is that of :func:`harness.stats.paired_mean`;
    without one it is Student's t, and values that are all equal leave the mean unbounded. Below two items
    the bounds are ``limits``. Raises :class:`ScoreError` on NaN, a wrong shape, or a value outside ``limits``.
    """
    check_alpha(alpha)
    scores = vector(values, "values", limits)
    return bounded_mean(scores, alpha, limits)


def perplexity_ratio(first: ArrayLike, second: ArrayLike, tokens: ArrayLike, alpha: float = 0.05) -> Interval | None:
    """Return the perplexity of the first arm over the second's on the same ``tokens`` (a plain number; above 1 is
    worse).

    ``first`` and ``second`` (items,) are summed log-likelihoods (nats) of each item, ``tokens`` its number of scored
    tokens, at least 1. log(ratio) = -sum(first - second) / sum(tokens) has its standard error from the items' residuals
    and t quantiles on n - 1 degrees of freedom; the bounds are those of the logarithm, exponentiated. ``None`` without
    items; one item, or no spread, leaves 0 to infinity. Raises :class:`ScoreError` on NaN, unequal lengths, or an item
    without tokens. Source: Cochran (1977), Sampling Techniques, section 2.11 (ratio estimator).
    """
    check_alpha(alpha)
    ours, theirs, counts = vector(first, "first"), vector(second, "second"), vector(tokens, "tokens")
    same_items(ours, theirs)
    same_items(ours, counts)
    if (counts < 1).any():
        raise ScoreError(f"an item with {counts.min():g} tokens", "every item has at least one", "leave it out")
    if not len(ours):
        return None
    change = theirs - ours
    log_ratio = float(change.sum() / counts.sum())
    residual = change - log_ratio * counts
    n, scale = len(ours), float(np.abs(change).max())
    if n < 2 or float(np.abs(residual).max()) <= 1e-12 * scale:
        return Interval(math.exp(log_ratio), 0.0, math.inf)
    error = math.sqrt(n / (n - 1) * float(residual @ residual)) / float(counts.sum())
    half = t_quantile(alpha, n - 1) * error
    return Interval(math.exp(log_ratio), math.exp(log_ratio - half), math.exp(log_ratio + half))
