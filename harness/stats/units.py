"""The one bound of a mean or a ratio of means: over items, clusters of items, or items and shared noise seeds.

What is averaged are *units*: single items, or clusters of items that move together. A unit has a top and a bottom, and
the tested value ``theta`` is the one at which the mean of ``top - theta * bottom`` is 0: for a mean the bottom is the
unit's size, for a retention its accuracy without noise (Fieller's way to a ratio). ``theta`` is accepted where that
mean lies within the quantile times its standard error, with the larger of two variances of the units: the sample's,
with Student's t, and the one that it would have if ``theta`` were true (:mod:`harness.stats.null_variance`). The first
alone passes too often where few items are lost whole, the second alone fails too often; the larger keeps both.

Unequal clusters count as fewer: n units with mean size 1 and mean squared size k are worth n / k (Carter, Schnepel and
Steigerwald 2017, Review of Economics and Statistics 99, 698-709), which gives the degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from harness.stats.checks import Floats, ScoreRange
from harness.stats.clustered import cluster_sums
from harness.stats.mean_squares import MeanSquares, Spread, mean_squares
from harness.stats.null_variance import beyond_null, null_variance, outermost
from harness.stats.quantiles import t_quantile, z_quantile, zero_discordance

_STEPS = 32
"""Ratios looked at between the estimate and a rejected one: the set of accepted ratios need not be an interval."""

_LARGEST = 1024.0
"""A ratio that is still accepted here says that the mean without noise cannot be told from 0."""


@dataclass(frozen=True, eq=False)
class Units:
    """``tops`` (n, columns) and ``bottoms`` (n,) of n units, in multiples of the mean size of a unit.

    More than one column: the noise seeds, whose draws all units share. ``ends``: (top, bottom) of a single item that
    could lie lowest and highest, ``None`` without a range. ``size``: the mean squared size of a unit, 1 for items.
    ``reach`` is the most by which one item can move a mean.
    """

    tops: Floats
    bottoms: Floats
    ends: tuple[tuple[float, float], tuple[float, float]] | None
    size: float = 1.0
    reach: float = 1.0
    ratio: bool = False

    @classmethod
    def of_scores(cls, scores: Floats, limits: ScoreRange, clusters: ArrayLike | None = None) -> Units:
        """Return the test of the mean of ``scores`` (items, columns) in ``limits``; one cluster for each item, or
        none."""
        bounded = math.isfinite(limits.width)
        ends = ((limits.low, 1.0), (limits.high, 1.0)) if bounded else None
        reach = limits.most if bounded else 0.0
        return cls(*_grouped(scores, np.ones(len(scores)), clusters), ends=ends, reach=reach)._sized(clusters)

    @classmethod
    def of_ratio(cls, noisy: Floats, clean: Floats, clusters: ArrayLike | None = None) -> Units:
        """Return the test of mean(noisy) / mean(clean), of fractions ``noisy`` (items, columns) and ``clean``
        (items,)."""
        ends = ((0.0, 1.0), (1.0, 0.0))
        return cls(*_grouped(noisy, clean, clusters), ends=ends, ratio=True)._sized(clusters)

    def _sized(self, clusters: ArrayLike | None) -> Units:
        if clusters is None:
            return self
        _, counts = np.unique(np.asarray(clusters), return_counts=True)
        size = float((counts * counts).mean() / counts.mean() ** 2)
        return Units(self.tops, self.bottoms, self.ends, size, self.reach, self.ratio)

    @property
    def n(self) -> int:
        """How many units there are."""
        return len(self.bottoms)

    @property
    def worth(self) -> float:
        """As how many units of equal size they count."""
        return self.n / self.size

    @property
    def plain(self) -> bool:
        """True for items by themselves: quantiles of the null variance are then normal, as Tango's are."""
        return self.size == 1.0 and self.tops.shape[1] == 1

    @cached_property
    def rows(self) -> Floats:
        """The units' tops, means over the columns."""
        found: Floats = self.tops.mean(axis=1)
        return found

    @cached_property
    def estimate(self) -> float:
        """The value at which the mean of the residuals is 0."""
        return float(self.rows.mean() / self.bottoms.mean())

    @cached_property
    def _distinct(self) -> tuple[Floats, Floats, Floats]:
        """Distinct (tops, bottoms) and their shares."""
        pairs, counts = np.unique(self.rows + 1j * self.bottoms, return_counts=True)
        return pairs.real, pairs.imag, counts / self.n

    @cached_property
    def _squares(self) -> MeanSquares | None:
        """Those of the seeds and of what is left, which do not depend on the tested value."""
        return mean_squares(self.tops) if self.tops.shape[1] > 1 else None

    def variance(self, theta: float) -> float:
        """Return the sample variance of the units' residuals, with n - 1."""
        at = theta if self.ratio else self.estimate
        return float(np.var(self.rows - at * self.bottoms, ddof=1))

    def spread(self, theta: float) -> Spread:
        """Return the standard error of the mean residual by the sample, and its degrees of freedom."""
        return self._spread_of(self.variance(theta))

    def _spread_of(self, variance: float) -> Spread:
        squares = self._squares
        if squares is None:
            return Spread(math.sqrt(variance / self.n), max(1.0, self.worth - 1))
        own = MeanSquares(self.n, squares.seeds, squares.seeds * variance, squares.by_seed, squares.residual)
        return Spread.of(own)

    def _gap(self, theta: float) -> float:
        return float(self.rows.mean() - theta * self.bottoms.mean())

    def _floor(self, alpha: float) -> float:
        return self.reach * zero_discordance(self.worth, alpha)

    def _null_spread(self, theta: float) -> Spread | None:
        """As :meth:`spread`, with the variance that the units would have if ``theta`` were true; ``None`` without a
        range. The quantiles of items by themselves are then normal, as Tango's are."""
        if self.ends is None:
            return None
        variance = float(null_variance(*self._residuals(theta)))
        if self.plain:
            return Spread(math.sqrt(variance / self.n), math.inf)
        return self._spread_of(variance)

    def _residuals(self, theta: float) -> tuple[Floats, Floats, float, float]:
        """Distinct residuals of the units, their shares, and the least and largest that a residual could be."""
        assert self.ends is not None
        tops, bottoms, shares = self._distinct
        low, high = ((top - theta * bottom) * self.size for top, bottom in self.ends)
        return tops - theta * bottoms, shares, low, high

    def _null_distance(self, theta: float, alpha: float) -> float:
        """How far ``theta`` lies beyond what the variance under the null accepts, in some unit; at most 0 where it is
        accepted."""
        if self.plain and self.ends is not None:
            return float(beyond_null(*self._residuals(theta), z_quantile(alpha) ** 2 / self.n))
        spread = self._null_spread(theta)
        if spread is None:
            return math.inf
        return abs(self._gap(theta)) - t_quantile(alpha, spread.freedom) * spread.error

    def distance(self, theta: float, alpha: float) -> float:
        """Return how far ``theta`` lies beyond what is accepted by either variance or by what zero discordance leaves
        open; at most 0 where it is accepted."""
        gap, spread = abs(self._gap(theta)), self.spread(theta)
        half = max(t_quantile(alpha, spread.freedom) * spread.error, self._floor(alpha))
        return gap - half if gap < half else min(gap - half, self._null_distance(theta, alpha))

    def bounds(self, alpha: float, limits: ScoreRange) -> tuple[float, float]:
        """Return (low, high) of a mean inside ``limits``."""
        estimate, spread = self.estimate, self.spread(self.estimate)
        half = max(t_quantile(alpha, spread.freedom) * spread.error, self._floor(alpha))
        if self.ends is None and float(np.ptp(self.tops)) == 0:  # nothing bounds the mean
            return limits.low, limits.high

        def beyond(end: float, side: float) -> float:
            least = max(limits.low, min(limits.high, estimate + side * half))
            return outermost(lambda theta: self._null_distance(theta, alpha), least, end)

        return beyond(limits.low, -1.0), beyond(limits.high, 1.0)

    def ratio_bounds(self, alpha: float) -> tuple[float, float] | None:
        """Return (low, high) of a ratio, ``None`` where its bottom cannot be told from 0."""
        if self.n < 2 or float(self.bottoms.mean()) <= self._floor(alpha):
            return None
        rejected = _first(lambda ratio: self.distance(ratio, alpha) > 0, self.estimate)
        if rejected is None:
            return None
        low = 0.0 if self.distance(0.0, alpha) <= 0 else self._nearest(0.0, alpha)
        return low, self._nearest(rejected, alpha)

    def _nearest(self, rejected: float, alpha: float) -> float:
        """The accepted ratio next to ``rejected``, between it and the estimate, which is always accepted."""
        ratios = np.linspace(rejected, self.estimate, _STEPS + 1)
        inner = next((i for i, ratio in enumerate(ratios) if self.distance(float(ratio), alpha) <= 0), _STEPS)
        outside, inside = float(ratios[inner - 1]), float(ratios[inner])
        return outermost(lambda ratio: self.distance(ratio, alpha), inside, outside)

    def tails(self, theta: float) -> tuple[float, float]:
        """Return (p of "at most theta", p of "at least theta"): the alpha at which a bound would touch ``theta``."""
        gap, spread = self._gap(theta), self.spread(theta)
        size = abs(gap)
        if size < 1e-15:
            return 1.0, 1.0
        null = self._null_spread(theta)
        tail = max(_tail(size, spread), self._least(size), 0.0 if null is None else _tail(size, null))
        return (tail, 1 - tail) if gap > 0 else (1 - tail, tail)

    def _least(self, size: float) -> float:
        """The alpha at which z^2/(n + z^2) is ``size``."""
        part = min(1.0, size / self.reach) if self.reach else 1.0
        return 0.0 if part == 1.0 else float(special.ndtr(-math.sqrt(self.worth * part / (1 - part))))


def _tail(size: float, spread: Spread) -> float:
    if spread.error <= 0:
        return 0.0
    statistic = -size / spread.error
    return float(special.ndtr(statistic) if spread.freedom == math.inf else special.stdtr(spread.freedom, statistic))


def _grouped(tops: Floats, bottoms: Floats, clusters: ArrayLike | None) -> tuple[Floats, Floats]:
    """Tops (n, columns) and bottoms (n,) of units in multiples of their mean size."""
    if clusters is None:
        return tops, bottoms
    sums = [cluster_sums(np.ascontiguousarray(column), clusters)[0] for column in tops.T]
    below, counts = cluster_sums(bottoms, clusters)
    size = float(counts.mean())
    return np.stack(sums, axis=1) / size, below / size


def _first(found: Callable[[float], bool], estimate: float) -> float | None:
    """The first of ever larger ratios above ``estimate`` for which ``found`` holds."""
    step = max(estimate, 1.0) / 64
    while step <= _LARGEST:
        if found(estimate + step):
            return estimate + step
        step *= 2
    return None
