"""One-sided p-values against a bound: the alpha at which the interval of the same test would just touch the bound.

Families of several hypotheses need them (:func:`harness.stats.judge_family`); one hypothesis alone is decided by its
interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy import special

from harness.stats.checks import DIFFERENCES, matrix, vector
from harness.stats.paired import checked_counts, difference_variance, ratio_variance
from harness.stats.two_way import LEAST_SEEDS, Spread, mean_squares, over_items


@dataclass(frozen=True)
class Tails:
    """``above`` is the p of "the value is at most the bound", ``below`` of "at least": small shows the opposite."""

    above: float
    below: float


UNDECIDED = Tails(1.0, 1.0)
"""No evidence either way: too few items, or the estimate is the bound and nothing varies."""


def _of_statistic(excess: float, statistic: float, freedom: float, least: float) -> Tails:
    """``statistic`` is |excess| / standard error; ``least`` the p below which the least half-width holds p."""
    if excess == 0 or math.isnan(statistic):
        return UNDECIDED
    tail = float(special.ndtr(-statistic) if freedom == math.inf else special.stdtr(freedom, -statistic))
    tail = max(tail, least)
    return Tails(tail, 1 - tail) if excess > 0 else Tails(1 - tail, tail)


def _score(excess: float, error: float) -> Tails:
    statistic = abs(excess) / error if error > 0 else math.inf
    return _of_statistic(excess, statistic, math.inf, 0.0)


def _least(excess: float, n: int) -> float:
    """The alpha at which z^2/(n + z^2), the half-width that no interval of ``n`` items goes below, is |excess|."""
    gap = min(1.0, abs(excess))
    return 0.0 if gap == 1.0 else float(special.ndtr(-math.sqrt(n * gap / (1 - gap))))


def tango_tails(lost: float, gained: float, n: float, bound: float) -> Tails:
    """Of the paired difference (gained - lost) / n against ``bound`` (fraction), as :func:`harness.stats.tango`.

    Without pairs nothing is decided. Raises ``ValueError`` on counts below 0.
    Source: Tango (1998), Statistics in Medicine 17, 891-908.
    """
    lost, gained, n = checked_counts(lost=lost, gained=gained, n=n)
    if n == 0:
        return UNDECIDED
    p, q = lost / n, gained / n
    return _score(q - p - bound, math.sqrt(difference_variance(p, q, bound) / n))


def ratio_tails(n11: float, n10: float, n01: float, n00: float, bound: float) -> Tails:
    """Of the paired ratio against ``bound`` above 0, as :func:`harness.stats.ratio_score`.

    Where no pair is right without noise nothing is decided. Raises ``ValueError`` on counts below 0.
    Source: Tang, Tang and Chan (2003), Nam and Blackwelder (2002), both in Statistics in Medicine.
    """
    n11, n10, n01, n00 = checked_counts(n11=n11, n10=n10, n01=n01, n00=n00)
    noisy, clean = n11 + n10, n11 + n01
    if clean == 0:
        return UNDECIDED
    return _score(noisy - bound * clean, math.sqrt(ratio_variance(n11, n10, n01, bound)))


def mean_tails(differences: ArrayLike, bound: float) -> Tails:
    """Of the mean of per-item ``differences`` (items,) against ``bound``, as :func:`harness.stats.paired_mean`.

    With ``noisy - r * clean`` and the bound 0 it decides whether the retention is r, as
    :func:`harness.stats.mean_ratio`. Below two items nothing is decided. Raises :class:`ScoreError` on a difference
    outside [-1, 1].
    """
    values = vector(differences, "differences", DIFFERENCES)
    n = len(values)
    if n < 2:
        return UNDECIDED
    excess, error = float(values.mean()) - bound, float(values.std(ddof=1)) / math.sqrt(n)
    statistic = abs(excess) / error if error > 0 else math.inf
    return _of_statistic(excess, statistic, n - 1, _least(excess, n))


def two_way_tails(scores: ArrayLike, bound: float, least_seeds: int = LEAST_SEEDS) -> Tails:
    """Of the mean of ``scores`` (items, noise seeds) against ``bound``, as :func:`harness.stats.two_way_mean`.

    The scores are differences of fractions. Without items, or with one, nothing is decided. Raises
    :class:`ScoreError` on a score outside [-1, 1].
    """
    table = matrix(scores, "scores", DIFFERENCES)
    items, seeds = table.shape
    if items < 2 or seeds < 1:
        return UNDECIDED
    spread = over_items(table) if seeds < max(2, least_seeds) else Spread.of(mean_squares(table))
    excess = float(table.mean()) - bound
    statistic = abs(excess) / spread.error if spread.error > 0 else math.inf
    return _of_statistic(excess, statistic, spread.freedom, _least(excess, items))
