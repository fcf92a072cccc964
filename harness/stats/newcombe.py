"""Newcombe's hybrid score interval, a cross-check of Tango's that shares no code with it."""

from __future__ import annotations

import math

from harness.stats.interval import Interval
from harness.stats.paired import checked_counts
from harness.stats.proportion import wilson
from harness.stats.quantiles import check_alpha


def _correlation(n11: float, n10: float, n01: float, n00: float) -> float:
    """Phi with Newcombe's continuity correction; 0 where a margin is empty."""
    product = (n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00)
    if product == 0:
        return 0.0
    n = n11 + n10 + n01 + n00
    top = n11 * n00 - n10 * n01
    corrected = top if top < 0 else max(0.0, top - n / 2)
    return corrected / math.sqrt(product)


def newcombe(n11: float, n10: float, n01: float, n00: float, alpha: float = 0.05) -> Interval:
    """Return the hybrid score interval of the paired difference (n10 - n01) / n (fraction), one-sided ``alpha`` per
    bound.

    The first index is the judged outcome, the second the reference, as in :func:`harness.stats.ratio_score`: ``n10``
    pairs are gained, ``n01`` lost. No pairs give the estimate NaN and the bounds -1 and 1. Raises ``ValueError`` on
    counts below 0. Source: Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10.
    """
    check_alpha(alpha)
    n11, n10, n01, n00 = checked_counts(n11=n11, n10=n10, n01=n01, n00=n00)
    n = n11 + n10 + n01 + n00
    if n == 0:
        return Interval(math.nan, -1.0, 1.0)
    first, second = wilson(n11 + n10, n, alpha), wilson(n11 + n01, n, alpha)
    phi = _correlation(n11, n10, n01, n00)
    estimate = (n10 - n01) / n
    low = _hypotenuse(first.estimate - first.low, second.high - second.estimate, phi)
    high = _hypotenuse(first.high - first.estimate, second.estimate - second.low, phi)
    return Interval(estimate, max(-1.0, estimate - low), min(1.0, estimate + high))


def _hypotenuse(first: float, second: float, phi: float) -> float:
    return math.sqrt(max(0.0, first * first - 2 * phi * first * second + second * second))
