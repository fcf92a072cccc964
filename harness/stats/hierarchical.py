"""Training seed -> noise seed -> item: what a new training run would score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.checks import DIFFERENCES, Floats, ScoreError, ScoreRange
from harness.stats.clustered import bounded
from harness.stats.interval import Interval
from harness.stats.quantiles import check_alpha, t_quantile
from harness.stats.two_way import two_way_mean


@dataclass(frozen=True)
class HierarchicalInterval(Interval):
    """An interval over training seeds with the variance of each stage (score units squared).

    ``training_variance`` between training runs (0 where the stages below explain all), ``noise_variance`` between
    noise seeds of one run, ``item_variance`` between items of one noise seed. ``no_claim``: a single training seed.
    """

    training_seeds: int = 0
    freedom: float = 0.0
    training_variance: float = 0.0
    noise_variance: float = 0.0
    item_variance: float = 0.0
    no_claim: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what :class:`Interval` returns, with the stages."""
        names = (
            *("training_seeds", "freedom", "training_variance", "noise_variance", "item_variance"),
            "no_claim",
        )
        return {**super().to_json(), **{name: getattr(self, name) for name in names}}


def _cube(scores: ArrayLike, limits: ScoreRange) -> Floats:
    cube = limits.check(scores, "scores")
    if cube.ndim != 3:
        raise ScoreError(f"scores of shape {cube.shape}", "training seeds by noise seeds by items", "stack the runs")
    return cube


def _variance(values: Floats, axis: int) -> Floats:
    """Unbiased variances along ``axis``, 0 for a single value."""
    if values.shape[axis] < 2:
        return np.zeros(values.mean(axis=axis).shape)
    found: Floats = np.var(values, axis=axis, ddof=1)
    return found


def hierarchical_mean(
    scores: ArrayLike, alpha: float = 0.05, limits: ScoreRange = DIFFERENCES, new_items: bool = False
) -> HierarchicalInterval:
    """Return the mean of ``scores`` (training seeds, noise seeds, items) over new training runs, ``alpha`` per bound.

    The means of the training runs decide, by Student's t on (training seeds - 1) degrees of freedom: every stage below
    is in their spread. That holds for these items; ``new_items`` adds the spread over items, which all runs
    share (items x training seeds by :func:`harness.stats.two_way_mean`). A single training seed has bounds at
    the ends of ``limits`` and sets ``no_claim``. The half-width is at least what zero discordance among the items
    leaves open.
    Raises :class:`ScoreError` on another shape, NaN, or a score outside ``limits``.
    Source: Searle, Casella and McCulloch (1992), Variance Components, chapter 3 (balanced nested layout).
    """
    check_alpha(alpha)
    cube = _cube(scores, limits)
    runs, seeds, items = cube.shape
    estimate = float(cube.mean()) if cube.size else math.nan
    if runs < 2 or not cube.size:
        return HierarchicalInterval(estimate, limits.low, limits.high, training_seeds=runs, no_claim=True)
    means = cube.mean(axis=(1, 2))
    spread = float(np.var(means, ddof=1))
    within_items = float(_variance(cube, 2).mean())
    between_noise = float(_variance(cube.mean(axis=2), 1).mean())
    interval, freedom = _interval(cube, spread, alpha, limits, new_items)
    return HierarchicalInterval(
        estimate,
        interval.low,
        interval.high,
        training_seeds=runs,
        freedom=freedom,
        training_variance=max(0.0, spread - between_noise / seeds) if seeds > 1 else spread,
        noise_variance=between_noise,
        item_variance=within_items if items > 1 else 0.0,
    )


def _interval(cube: Floats, spread: float, alpha: float, limits: ScoreRange, new_items: bool) -> tuple[Interval, float]:
    runs = cube.shape[0]
    if new_items:
        found = two_way_mean(cube.mean(axis=1).T, alpha, limits, least_seeds=2)
        return found, found.freedom
    estimate = float(cube.mean())
    half = t_quantile(alpha, runs - 1) * math.sqrt(spread / runs)
    return bounded(estimate, half, cube.shape[2], alpha, limits), runs - 1.0
