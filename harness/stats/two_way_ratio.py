"""The ratio of a mean over items and shared noise seeds to a mean over the same items without noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from harness.stats.checks import FRACTIONS, Floats, ScoreError, matrix, same_items, vector
from harness.stats.interval import Interval
from harness.stats.quantiles import check_alpha, t_quantile, zero_discordance
from harness.stats.two_way import LEAST_SEEDS, MeanSquares, Spread, mean_squares

_STEPS = 32
"""Ratios looked at between the estimate and a rejected one: the set of accepted ratios need not be an interval."""

_LARGEST = 1024.0
"""A ratio that is still accepted here says that the mean without noise cannot be told from 0."""


@dataclass(frozen=True)
class _Excess:
    """noisy - r * clean as a function of r: only the mean square between items depends on r, as a quadratic."""

    top: float
    bottom: float
    covariance: Floats
    squares: MeanSquares
    alpha: float

    @classmethod
    def of(cls, noisy: Floats, clean: Floats, alpha: float) -> _Excess:
        covariance = np.cov(noisy.mean(axis=1), clean, ddof=1)
        return cls(float(noisy.mean()), float(clean.mean()), covariance, mean_squares(noisy), alpha)

    def accepted(self, ratio: float) -> bool:
        """Whether the two-way interval of the mean of noisy - ratio * clean contains 0."""
        return self.distance(ratio) <= 0

    def distance(self, ratio: float) -> float:
        """|mean| - half-width at ``ratio``: above 0 where it is rejected."""
        (noisy, both), (_, clean) = self.covariance
        items, seeds = self.squares.items, self.squares.seeds
        by_item = seeds * max(0.0, float(noisy - 2 * ratio * both + ratio * ratio * clean))
        spread = Spread.of(MeanSquares(items, seeds, by_item, self.squares.by_seed, self.squares.residual))
        half = t_quantile(self.alpha, spread.freedom) * spread.error
        return abs(self.top - ratio * self.bottom) - max(half, zero_discordance(items, self.alpha))


def two_way_ratio(noisy: ArrayLike, clean: ArrayLike, alpha: float = 0.05) -> Interval | None:
    """Retention mean(noisy) / mean(clean) over new items and new noise seeds, one-sided ``alpha`` per bound.

    ``noisy`` (items, noise seeds) are fractions where all items share the draws of a seed, ``clean`` (items,) those
    without noise, one per item and the same under every seed. The bounds enclose the ratios r at which the interval
    of :func:`harness.stats.two_way_mean` of the cells noisy - r * clean contains 0 (Fieller's way to a ratio).
    Returns ``None`` where undefined: fewer than two items, or a clean mean that cannot be told from 0. Raises
    :class:`ScoreError` on NaN, scores outside [0, 1], other items on a side, or fewer seeds than
    :data:`harness.stats.LEAST_SEEDS`, whose spread is not known.
    Sources: Fieller (1954), Journal of the Royal Statistical Society B 16, 175-185; as for ``two_way_mean``.
    """
    check_alpha(alpha)
    cells, reference = matrix(noisy, "noisy", FRACTIONS), vector(clean, "clean", FRACTIONS)
    same_items(cells[:, 0] if cells.size else cells.ravel(), reference)
    items, seeds = cells.shape
    if seeds < LEAST_SEEDS:
        raise ScoreError(
            f"{seeds} noise seeds",
            f"their spread is known from {LEAST_SEEDS} on",
            "use mean_ratio of the items' means, which is conditional on the seeds",
        )
    if items < 2 or float(reference.mean()) <= zero_discordance(items, alpha):
        return None
    excess = _Excess.of(cells, reference, alpha)
    estimate = excess.top / excess.bottom
    rejected = _first(lambda ratio: not excess.accepted(ratio), estimate)
    if rejected is None:
        return None
    low = 0.0 if excess.accepted(0.0) else _outermost(excess, 0.0, estimate)
    return Interval(estimate, low, _outermost(excess, rejected, estimate))


def _first(found: Callable[[float], bool], estimate: float) -> float | None:
    """The first of ever larger ratios above ``estimate`` for which ``found`` holds."""
    step = max(estimate, 1.0) / 64
    while step <= _LARGEST:
        if found(estimate + step):
            return estimate + step
        step *= 2
    return None


def _outermost(excess: _Excess, rejected: float, estimate: float) -> float:
    """The accepted ratio next to ``rejected``, between it and the estimate, which is always accepted."""
    ratios = np.linspace(rejected, estimate, _STEPS + 1)
    inner = next(index for index, ratio in enumerate(ratios) if excess.accepted(float(ratio)))
    outer, found = float(ratios[inner - 1]), float(ratios[inner])
    if math.isclose(outer, found, rel_tol=1e-15):
        return found
    return float(brentq(excess.distance, outer, found, xtol=1e-14, rtol=1e-14, maxiter=500))
