"""The interval of a single proportion."""

from __future__ import annotations

import math

from statsmodels.stats.proportion import proportion_confint

from harness.stats.interval import Interval
from harness.stats.quantiles import check_alpha


def wilson(successes: float, n: float, alpha: float = 0.05) -> Interval:
    """Return Wilson's score interval of ``successes / n`` (fraction), each bound one-sided at ``alpha``.

    ``n`` = 0 gives the estimate NaN and the bounds 0 and 1. Raises ``ValueError`` unless
    0 <= successes <= n and 0 < alpha < 0.5. Source: Wilson (1927), as in statsmodels.
    """
    check_alpha(alpha)
    if not 0 <= successes <= n:
        raise ValueError(f"{successes!r} successes of {n!r}; successes must lie between 0 and n")
    if n == 0:
        return Interval(math.nan, 0.0, 1.0)
    low, high = proportion_confint(successes, n, alpha=2 * alpha, method="wilson")
    # statsmodels can leave [0, 1] by a rounding error at 0 and n successes
    return Interval(successes / n, max(0.0, float(low)), min(1.0, float(high)))
