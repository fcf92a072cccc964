"""The analysis of variance behind items that share the draws of a noise seed: mean squares and what they add up to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.stats.checks import Floats


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
    """Return the mean squares of ``scores`` (items, seeds), at least 2 of each."""
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
        """Return the components from mean squares; a variance below 0 says that the cells hide both effects: the larger
        then stands alone."""
        variance = squares.variance
        if variance <= 0:
            variance = max(squares.by_item, squares.by_seed) / (squares.items * squares.seeds)
        return cls(math.sqrt(variance), squares.freedom)
