"""The mean over items and noise seeds where all items share the draws of a seed: two crossed random effects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from harness.stats.checks import DIFFERENCES, Floats, ScoreRange, matrix
from harness.stats.interval import Interval
from harness.stats.mean_squares import mean_squares
from harness.stats.quantiles import check_alpha
from harness.stats.units import Units

LEAST_SEEDS = 5
"""Below this number of noise seeds their variance is not estimated: the interval is conditional on the seeds."""


def seed_columns(table: Floats, least_seeds: int = LEAST_SEEDS) -> Floats:
    """Return ``table`` (items, seeds) where it has seeds enough to know their spread, else its means over seeds (items,
    1)."""
    if table.shape[1] >= max(2, least_seeds):
        return table
    found: Floats = table.mean(axis=1, keepdims=True)
    return found


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
        """Return what :class:`Interval` returns, with degrees of freedom, variances and ``conditional``."""
        names = ("freedom", "item_variance", "seed_variance", "residual_variance", "conditional")
        return {**super().to_json(), **{name: getattr(self, name) for name in names}}


def two_way_mean(
    scores: ArrayLike,
    alpha: float = 0.05,
    limits: ScoreRange = DIFFERENCES,
    least_seeds: int = LEAST_SEEDS,
    clusters: ArrayLike | None = None,
) -> TwoWayInterval:
    """Return the mean of ``scores`` (items, noise seeds) over new items and new seeds, one-sided ``alpha`` per bound.

    ``scores`` are differences or scores inside ``limits``. The variance is the sum over items and over seeds less the
    cells counted twice (method of moments, which is Cameron, Gelbach and Miller's two-way cluster variance for
    balanced data), with Student's t on Satterthwaite's degrees of freedom; the part of the items is the larger of the
    sample's and the one under the tested mean (:class:`harness.stats.units.Units`). Below ``least_seeds`` seeds the
    spread over items alone is used and ``conditional`` is set. With ``clusters`` (items,) items of one cluster may
    move together. Below two items or clusters the bounds are ``limits``.
    Raises :class:`ScoreError` on NaN, ragged rows, or a score outside ``limits``.
    Sources: Searle, Casella and McCulloch (1992), Variance Components, chapter 4; Satterthwaite (1946), Biometrics
    Bulletin 2, 110-114; Cameron, Gelbach and Miller (2011), Journal of Business & Economic Statistics 29, 238-249.
    """
    check_alpha(alpha)
    table = matrix(scores, "scores", limits)
    items, seeds = table.shape
    estimate = float(table.mean()) if table.size else math.nan
    conditional = seeds < max(2, least_seeds)
    units = Units.of_scores(seed_columns(table, least_seeds), limits, clusters) if table.size else None
    if units is None or units.worth < 2:
        return TwoWayInterval(estimate, limits.low, limits.high, conditional=True)
    low, high = units.bounds(alpha, limits)
    freedom = units.spread(estimate).freedom
    if conditional:
        return TwoWayInterval(estimate, low, high, freedom, units.variance(estimate), conditional=True)
    squares = mean_squares(table)
    return TwoWayInterval(
        estimate,
        low,
        high,
        freedom,
        max(0.0, squares.by_item - squares.residual) / seeds,
        max(0.0, squares.by_seed - squares.residual) / items,
        squares.residual,
    )
