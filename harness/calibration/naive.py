"""Intervals that do not hold. Calibration shows them failing beside the ones in use; nothing decides by them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.checks import matrix
from harness.stats.interval import Interval
from harness.stats.quantiles import z_quantile


def wald(successes: float, n: float, alpha: float = 0.05) -> Interval:
    """Return successes / n -/+ z * sqrt(p (1 - p) / n): no width at 0 and n successes."""
    p = successes / n
    half = z_quantile(alpha) * math.sqrt(p * (1 - p) / n)
    return Interval(p, p - half, p + half)


def wald_difference(lost: float, gained: float, n: float, alpha: float = 0.05) -> Interval:
    """Return the paired difference with its unrestricted variance: no width without discordant pairs."""
    p, q = lost / n, gained / n
    half = z_quantile(alpha) * math.sqrt(max(0.0, p + q - (q - p) ** 2) / n)
    return Interval(q - p, q - p - half, q - p + half)


def wald_ratio(n11: float, n10: float, n01: float, alpha: float = 0.05) -> Interval | None:
    """Return the paired ratio with normal quantiles on the log scale; ``None`` where a side has no right answer."""
    noisy, clean = n11 + n10, n11 + n01
    if noisy == 0 or clean == 0:
        return None
    half = z_quantile(alpha) * math.sqrt((n10 + n01) / (noisy * clean))
    ratio = noisy / clean
    return Interval(ratio, ratio * math.exp(-half), ratio * math.exp(half))


def pooled_rows(scores: ArrayLike, alpha: float = 0.05) -> Interval:
    """Return the mean of ``scores`` (items, seeds) as if every row were an item of its own."""
    values = matrix(scores, "scores").ravel()
    half = z_quantile(alpha) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    estimate = float(values.mean())
    return Interval(estimate, estimate - half, estimate + half)
