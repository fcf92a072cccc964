"""What a run can tell, and how many items would decide."""

from __future__ import annotations

import math

from harness.stats.means import mean_half_width
from harness.stats.paired import difference_variance, ratio_variance
from harness.stats.quantiles import z_quantile

MAX_ITEMS = 10_000_000
"""Above this many items the answer is that nothing finite decides (``None``)."""

_SAME = 1e-12


def minimum_detectable_effect(sd: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest true drop (fraction) that is told from 0 with probability ``power``.

    ``sd`` is the standard deviation of the per-item differences (fraction), ``n`` the number of items. It is
    the half-width max(t * sd / sqrt(n), z^2/(n + z^2)) plus the normal quantile of ``power`` times sd / sqrt(n),
    at most 1: nothing short of a total loss can be told then, which is so for fewer than two items.
    Raises ``ValueError`` unless sd >= 0 and 0.5 <= power < 1.
    """
    if not 0 <= sd < math.inf or not 0.5 <= power < 1:
        raise ValueError(f"sd={sd!r}, power={power!r}; sd must be at least 0 and power in [0.5, 1)")
    z_quantile(alpha)
    if n < 2:
        return 1.0
    beyond = 0.0 if power == 0.5 else z_quantile(1 - power) * sd / math.sqrt(n)
    return min(1.0, mean_half_width(sd, n, alpha) + beyond)


def _items(variance: float, gap: float, alpha: float) -> int | None:
    """The smallest n with n * gap^2 / variance > z^2, or ``None``."""
    if abs(gap) < _SAME:
        return None
    least = z_quantile(alpha) ** 2 * variance / gap**2
    return None if least >= MAX_ITEMS else math.floor(least) + 1


def items_needed_paired(lost: float, gained: float, n: float, margin: float, alpha: float = 0.05) -> int | None:
    """Return the smallest number of items at which Tango's interval would exclude ``-margin`` (fraction).

    The proportions of lost and gained pairs (counts of ``n`` pairs) are held; the score statistic then grows
    with the root of the number of items, so the answer is exact for the scaled table. ``None`` where the
    estimate is -margin, n is 0, or more than :data:`MAX_ITEMS` would be needed.
    """
    if n <= 0:
        return None
    p, q = lost / n, gained / n
    return _items(difference_variance(p, q, -margin), q - p + margin, alpha)


def items_needed_ratio(
    n11: float, n10: float, n01: float, n00: float, minimum: float, alpha: float = 0.05
) -> int | None:
    """Do as :func:`items_needed_paired`, for the paired ratio of :func:`ratio_score` against ``minimum``."""
    n = n11 + n10 + n01 + n00
    if n <= 0:
        return None
    variance = ratio_variance(n11 / n, n10 / n, n01 / n, minimum) if n11 + n10 + n01 else 0.0
    return _items(variance, (n11 + n10 - minimum * (n11 + n01)) / n, alpha)


def items_needed_mean(estimate: float, sd: float, margin: float, alpha: float = 0.05) -> int | None:
    """Return the smallest number of items at which the interval of a mean would exclude ``-margin`` (fractions).

    ``estimate`` and ``sd`` (with n - 1) of the per-item values are held; the half-width is that of
    :func:`paired_mean`. ``None`` where the estimate is -margin or more than :data:`MAX_ITEMS` would be needed.
    """
    gap = abs(estimate + margin)
    if not gap >= _SAME or mean_half_width(sd, MAX_ITEMS, alpha) >= gap:
        return None
    below, enough = 1, MAX_ITEMS
    while enough - below > 1:
        middle = (below + enough) // 2
        if mean_half_width(sd, middle, alpha) < gap:
            enough = middle
        else:
            below = middle
    return enough
