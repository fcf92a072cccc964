"""Two other bounds of a mean, to hold the one in use against: adjusted empirical likelihood, and betting."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness.calibration.losses import VALUES, shares_of
from harness.stats.bootstrap import private_generator
from harness.stats.quantiles import z_quantile

HALVINGS = 60


def likelihood_decisions(counts: NDArray[np.int64], n: int, margin: float, alpha: float = 0.05) -> NDArray[np.int8]:
    """1 PASS, -1 FAIL, 0 neither for each row of ``counts`` (repetitions, values), by the signed root of the adjusted
    empirical likelihood ratio (Chen, Variyath and Abraham 2008): one more observation lies opposite the mean, so that
    the ratio is finite also where all items lie on one side."""
    z = VALUES + margin
    mean = counts @ z / n
    extra = -max(1.0, math.log(n) / 2) * mean
    points = np.column_stack([np.broadcast_to(z, counts.shape), extra])
    weights = np.column_stack([counts, np.ones(len(counts))]).astype(float)
    there = np.where(weights > 0, points, 0.0)
    low = -1 / there.max(axis=1) * (1 - 1e-12)
    high = -1 / there.min(axis=1) * (1 - 1e-12)
    for _ in range(HALVINGS):  # the score falls in the multiplier
        middle = (low + high) / 2
        score = (weights * there / (1 + middle[:, None] * there)).sum(axis=1)
        low, high = np.where(score > 0, middle, low), np.where(score > 0, high, middle)
    ratio = 2 * (weights * np.log1p(((low + high) / 2)[:, None] * there)).sum(axis=1)
    return (np.sign(mean) * (ratio > z_quantile(alpha) ** 2)).astype(np.int8)


def betting_decisions(drawn: NDArray[np.float64], margin: float, alpha: float = 0.05) -> NDArray[np.int8]:
    """1 PASS, -1 FAIL, 0 neither for each row of ``drawn`` (repetitions, items, values in [-1, 1]), by a capital that
    bets on each item in turn (Waudby-Smith and Ramdas 2024, the predictable plug-in); valid for every distribution."""
    return _won(drawn, -margin, alpha).astype(np.int8) - _won(-drawn, margin, alpha).astype(np.int8)


def _won(x: NDArray[np.float64], null: float, alpha: float) -> NDArray[np.bool_]:
    """Whether a bet on a mean above ``null`` ever multiplies its capital by 1 / alpha."""
    n = x.shape[1]
    seen = np.arange(1, n + 1)
    mean = (np.cumsum(x, axis=1) + 0.0) / (seen + 1)
    spread = (np.cumsum((x - mean) ** 2, axis=1) + 0.25) / (seen + 1)
    before = np.column_stack([np.full(len(x), 0.25), spread[:, :-1]])
    stake = np.minimum(np.sqrt(2 * math.log(1 / alpha) / (n * before)), 0.75 / (1 + null))
    capital = np.cumsum(np.log1p(stake * (x - null)), axis=1)
    return np.asarray(capital.max(axis=1) >= math.log(1 / alpha))


def draw_items(kind: str, n: int, margin: float, repetitions: int) -> NDArray[np.float64]:
    """Per-item differences (repetitions, items) of a kind of loss whose mean is -``margin``."""
    rng = private_generator(0, f"rivals {kind} {n} {margin} 0.0")
    return rng.choice(VALUES, p=shares_of(kind, margin), size=(repetitions, n))


def counts_of(drawn: NDArray[np.float64]) -> NDArray[np.int64]:
    """How often each of the values occurs in each row."""
    return np.stack([(np.abs(drawn - value) < 1e-9).sum(axis=1) for value in VALUES], axis=1)
