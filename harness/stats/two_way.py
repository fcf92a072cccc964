"""The mean over items and noise seeds where all items share the draws of a seed: two crossed random effects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.checks import DIFFERENCES, Floats, ScoreRange, matrix
from harness.stats.clustered import bounded
from harness.stats.interval import Interval
from harness.stats.quantiles import check_alpha, t_quantile

LEAST_SEEDS = 5
"""Below so many noise seeds their variance is not estimated: the interval is conditional on the seeds."""


@dataclass(frozen=True)
class MeanSquares:
    """The mean squares of the two-way layout without replication, of ``items`` x ``seeds`` scores."""

    items: int
    seeds: int
    by_item: float
    by_seed: float
    residual: float

    @property
    def variance(self) -> float:
        """Variance of the grand mean, by the method of moments; below 0 where the residual outweighs both."""
        return (self.by_item + self.by_seed - self.residual) / (self.items * self.seeds)

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of :attr:`variance`, at least min(items, seeds) - 1."""
        least = float(min(self.items, self.seeds) - 1)
        items, seeds = self.items - 1, self.seeds - 1
        spread = self.by_item**2 / items + self.by_seed**2 / seeds + self.residual**2 / (items * seeds)
        total = self.by_item + self.by_seed - self.residual
        return least if spread == 0 or total <= 0 else max(least, total**2 / spread)


def mean_squares(scores: Floats) -> MeanSquares:
    """The mean squares of ``scores`` (items, seeds), at least 2 of each."""
    items, seeds = scores.shape
    grand = float(scores.mean())
    rows, columns = scores.mean(axis=1) - grand, scores.mean(axis=0) - grand
    rest = scores - grand - rows[:, None] - columns[None, :]
    return MeanSquares(
        items,
        seeds,
        by_item=seeds * float(rows @ rows) / (items - 1),
        by_seed=items * float(columns @ columns) / (seeds - 1),
        residual=float(np.square(rest).sum()) / ((items - 1) * (seeds - 1)),
    )


@dataclass(frozen=True)
class Spread:
    """The standard error of a grand mean and its degrees of freedom."""

    error: float
    freedom: float

    @classmethod
    def of(cls, squares: MeanSquares) -> Spread:
        """From mean squares; a variance below 0 says that the cells hide both effects: the larger then stands alone."""
        variance = squares.variance
        if variance <= 0:
            variance = max(squares.by_item, squares.by_seed) / (squares.items * squares.seeds)
        return cls(math.sqrt(variance), squares.freedom)


def over_items(table: Floats) -> Spread:
    """The spread of the mean of ``table`` (at least 2 items, seeds) for these seeds only."""
    items = len(table)
    return Spread(math.sqrt(float(np.var(table.mean(axis=1), ddof=1)) / items), items - 1.0)


@dataclass(frozen=True)
class TwoWayInterval(Interval):
    """An interval with the variances behind it (score units squared, per item, per seed, per cell).

    ``conditional``: too few seeds to know their variance, so the interval holds for these seeds only.
    """

    freedom: float = 0.0
    item_variance: float = 0.0
    seed_variance: float = 0.0
    residual_variance: float = 0.0
    conditional: bool = False

    def to_json(self) -> dict[str, Any]:
        """As for :class:`Interval`, with degrees of freedom, variances and ``conditional``."""
        names = ("freedom", "item_variance", "seed_variance", "residual_variance", "conditional")
        return {**super().to_json(), **{name: getattr(self, name) for name in names}}


def two_way_mean(
    scores: ArrayLike, alpha: float = 0.05, limits: ScoreRange = DIFFERENCES, least_seeds: int = LEAST_SEEDS
) -> TwoWayInterval:
    """The mean of ``scores`` (items, noise seeds) over new items and new seeds, one-sided ``alpha`` per bound.

    ``scores`` are differences or scores inside ``limits``. The variance is the sum over items and over seeds less the
    cells counted twice (method of moments, which is Cameron, Gelbach and Miller's two-way cluster variance for
    balanced data), with Student's t on Satterthwaite's degrees of freedom. Below ``least_seeds`` seeds the spread
    over items alone is used and ``conditional`` is set. Below two items the bounds are ``limits``.
    Raises :class:`ScoreError` on NaN, ragged rows, or a score outside ``limits``.
    Sources: Searle, Casella and McCulloch (1992), Variance Components, chapter 4; Satterthwaite (1946), Biometrics
    Bulletin 2, 110-114; Cameron, Gelbach and Miller (2011), Journal of Business & Economic Statistics 29, 238-249.
    """
    check_alpha(alpha)
    table = matrix(scores, "scores", limits)
    items, seeds = table.shape
    estimate = float(table.mean()) if table.size else math.nan
    if items < 2 or seeds < 1:
        return TwoWayInterval(estimate, limits.low, limits.high, conditional=True)
    squares = None if seeds < max(2, least_seeds) else mean_squares(table)
    spread = over_items(table) if squares is None else Spread.of(squares)
    found = bounded(estimate, t_quantile(alpha, spread.freedom) * spread.error, items, alpha, limits)
    if squares is None:
        variance = items * spread.error**2
        return TwoWayInterval(estimate, found.low, found.high, spread.freedom, variance, conditional=True)
    return TwoWayInterval(
        estimate,
        found.low,
        found.high,
        spread.freedom,
        max(0.0, squares.by_item - squares.residual) / seeds,
        max(0.0, squares.by_seed - squares.residual) / items,
        squares.residual,
    )
