"""Whether a number of events is a chance of their rate."""

from __future__ import annotations

from scipy.stats import binom

from harness.stats.draw_moments import FALSE_ALARM


def improbable(count: float, chances: float, rate: float) -> bool:
    """Return whether ``count`` of ``chances`` is none where each is an event with probability ``rate`` (binomial tails;
    honest counts are called improbable at most once in 1 / :data:`FALSE_ALARM`, on either side)."""
    return bool(min(binom.cdf(count, chances, rate), binom.sf(count - 1, chances, rate)) < FALSE_ALARM)
