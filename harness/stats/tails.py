"""One-sided p-values against a bound: the alpha at which the interval of the same test would just touch the bound.

Families of several hypotheses need them (:func:`harness.stats.judge_family`); one hypothesis alone is decided by its
interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy import special

from harness.stats.checks import DIFFERENCES, FRACTIONS, matrix, same_items, vector
from harness.stats.paired import checked_counts, difference_variance, ratio_variance
from harness.stats.two_way import LEAST_SEEDS, seed_columns
from harness.stats.units import Units


@dataclass(frozen=True)
class Tails:
    """``above`` is the p of "the value is at most the bound", ``below`` of "at least": small shows the opposite."""

    above: float
    below: float


UNDECIDED = Tails(1.0, 1.0)
"""No evidence either way: too few items, or the estimate is the bound and nothing varies."""


def _score(excess: float, error: float) -> Tails:
    if excess == 0:
        return UNDECIDED
    tail = float(special.ndtr(-abs(excess) / error)) if error > 0 else 0.0
    return Tails(tail, 1 - tail) if excess > 0 else Tails(1 - tail, tail)


def tango_tails(lost: float, gained: float, n: float, bound: float) -> Tails:
    """Return the test of the paired difference (gained - lost) / n against ``bound`` (fraction), as
    :func:`harness.stats.tango`.

    Without pairs nothing is decided. Raises ``ValueError`` on counts below 0. Source: Tango (1998), Statistics in
    Medicine 17, 891-908.
    """
    lost, gained, n = checked_counts(lost=lost, gained=gained, n=n)
    if n == 0:
        return UNDECIDED
    p, q = lost / n, gained / n
    return _score(q - p - bound, math.sqrt(difference_variance(p, q, bound) / n))


def ratio_tails(n11: float, n10: float, n01: float, n00: float, bound: float) -> Tails:
    """Return the test of the paired ratio against ``bound`` above 0, as :func:`harness.stats.ratio_score`.

    Where no pair is right without noise nothing is decided. Raises ``ValueError`` on counts below 0.
    Source: Tang, Tang and Chan (2003), Nam and Blackwelder (2002), both in Statistics in Medicine.
    """
    n11, n10, n01, n00 = checked_counts(n11=n11, n10=n10, n01=n01, n00=n00)
    noisy, clean = n11 + n10, n11 + n01
    if clean == 0:
        return UNDECIDED
    return _score(noisy - bound * clean, math.sqrt(ratio_variance(n11, n10, n01, bound)))


def mean_tails(differences: ArrayLike, bound: float, clusters: ArrayLike | None = None) -> Tails:
    """Return the test of the mean of per-item ``differences`` (items,) against ``bound``, as
    :func:`harness.stats.paired_mean`.

    Below two items, or clusters, nothing is decided. Raises :class:`ScoreError` on a difference outside [-1, 1].
    """
    values = vector(differences, "differences", DIFFERENCES)
    return _of_units(Units.of_scores(values[:, None], DIFFERENCES, clusters), bound)


def two_way_tails(
    scores: ArrayLike, bound: float, least_seeds: int = LEAST_SEEDS, clusters: ArrayLike | None = None
) -> Tails:
    """Return the test of the mean of ``scores`` (items, noise seeds) against ``bound``, as
    :func:`harness.stats.two_way_mean`.

    The scores are differences of fractions. Without items, or with one, nothing is decided. Raises :class:`ScoreError`
    on a score outside [-1, 1].
    """
    table = matrix(scores, "scores", DIFFERENCES)
    if not table.size:
        return UNDECIDED
    return _of_units(Units.of_scores(seed_columns(table, least_seeds), DIFFERENCES, clusters), bound)


def mean_ratio_tails(noisy: ArrayLike, clean: ArrayLike, bound: float, clusters: ArrayLike | None = None) -> Tails:
    """Return the test of mean(noisy) / mean(clean) against ``bound`` above 0, as :func:`harness.stats.mean_ratio`; and
    as :func:`harness.stats.two_way_ratio` where ``noisy`` is (items, noise seeds) with seeds enough."""
    cells, reference = FRACTIONS.check(noisy, "noisy"), vector(clean, "clean", FRACTIONS)
    table = cells[:, None] if cells.ndim == 1 else matrix(cells, "noisy")
    same_items(table[:, 0] if table.size else table.ravel(), reference)
    if not table.size:
        return UNDECIDED
    return _of_units(Units.of_ratio(seed_columns(table), reference, clusters), bound)


def _of_units(units: Units, bound: float) -> Tails:
    return UNDECIDED if units.n < 2 or units.worth < 2 else Tails(*units.tails(bound))
