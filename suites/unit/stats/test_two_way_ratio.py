"""Retention where all items share the draws of a noise seed."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats import (
    ScoreError,
    ScoreRange,
    mean_ratio,
    mean_ratio_tails,
    two_way_mean,
    two_way_ratio,
    zero_discordance,
)

pytestmark = pytest.mark.unit
EXCESS = ScoreRange(-3.0, 3.0, reach=1.0)


def scores(n: int = 300, seeds: int = 6, seed_sd: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(noisy (items, seeds), clean (items,)); the retention is 0.85 + 0.1 * (1 - accuracy) / accuracy in truth."""
    rng = np.random.default_rng(seed)
    clean = (rng.random(n) < 0.8).astype(float)
    shift = rng.normal(0.0, seed_sd, seeds)
    noisy = rng.random((n, seeds)) < np.where(clean > 0, 0.85, 0.1)[:, None] + shift
    return noisy.astype(float), clean


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_at_its_bounds_the_two_way_interval_touches_0(seed: int, alpha: float) -> None:
    noisy, clean = scores(n=60 + 40 * seed, seeds=5 + seed, seed=seed)
    found = two_way_ratio(noisy, clean, alpha)
    at_low, at_high = (two_way_mean(noisy - ratio * clean[:, None], alpha, EXCESS) for ratio in (found.low, found.high))
    # the excess may reach further than the ends of a retention do, so that its interval is no narrower
    assert at_low.low <= 1e-9 and at_high.high >= -1e-9
    assert found.estimate == pytest.approx(noisy.mean() / clean.mean())
    assert found.low < found.estimate < found.high
    assert mean_ratio_tails(noisy, clean, found.low).above == pytest.approx(alpha, abs=1e-7)
    assert mean_ratio_tails(noisy, clean, found.high).below == pytest.approx(alpha, abs=1e-7)


def test_without_spread_between_seeds_it_is_near_the_interval_over_items() -> None:
    """Equal columns: the seeds add nothing, and the residual is 0, so both are Fieller's interval."""
    noisy, clean = scores(seeds=1)
    same = np.repeat(noisy, 6, axis=1)
    ours, items = two_way_ratio(same, clean), mean_ratio(noisy[:, 0], clean)
    assert (ours.low, ours.high) == pytest.approx(
        (items.low, items.high), rel=1e-3
    )  # t instead of z where the null variance decides
    drawn, clean = scores(n=1000, seeds=8, seed_sd=0.0)
    ours, items = two_way_ratio(drawn, clean), mean_ratio(drawn.mean(axis=1), clean)
    assert (ours.low, ours.high) == pytest.approx((items.low, items.high), abs=0.01)


def test_a_spread_between_seeds_widens_it() -> None:
    noisy, clean = scores(n=1000, seeds=5, seed_sd=0.1)
    ours, items = two_way_ratio(noisy, clean), mean_ratio(noisy.mean(axis=1), clean)
    assert ours.high - ours.low > 3 * (items.high - items.low)


def test_coverage() -> None:
    """A fast count; ``test_calibration_seeds.py`` has the long one. 90 % intervals, 120 draws, 4 standard errors."""
    truth, covered, conditional = (0.8 * 0.85 + 0.2 * 0.1) / 0.8, 0, 0
    for seed in range(120):
        noisy, clean = scores(n=200, seeds=5, seed_sd=0.04, seed=seed)
        ours, items = two_way_ratio(noisy, clean), mean_ratio(noisy.mean(axis=1), clean)
        covered += ours.low <= truth <= ours.high
        conditional += items.low <= truth <= items.high
    assert covered / 120 >= 0.79
    assert conditional / 120 < 0.79


def test_what_is_undefined_and_what_is_refused() -> None:
    noisy, clean = scores(n=40)
    assert two_way_ratio(noisy, np.zeros(40)) is None
    assert two_way_ratio(noisy, np.where(np.arange(40) < 2, 1.0, 0.0)) is None  # below what zero discordance leaves
    assert two_way_ratio(noisy[:1], clean[:1]) is None
    assert two_way_ratio(np.zeros((0, 5)), []) is None
    with pytest.raises(ScoreError, match="4 noise seeds; their spread is known from 5 on"):
        two_way_ratio(noisy[:, :4], clean)
    with pytest.raises(ScoreError, match="40 items on one side and 39"):
        two_way_ratio(noisy, clean[:39])
    with pytest.raises(ScoreError, match="a score lies in"):
        two_way_ratio(noisy + 1, clean)


def test_nothing_left_and_nothing_lost() -> None:
    clean = np.repeat([1.0, 0.0], [80, 20])
    none = two_way_ratio(np.zeros((100, 5)), clean)
    assert (none.estimate, none.low) == (0.0, 0.0) and 0 < none.high < 0.1
    every = two_way_ratio(np.repeat(clean[:, None], 5, axis=1), clean)
    floor = zero_discordance(100) / 0.8
    assert (every.estimate, every.low, every.high) == pytest.approx((1.0, 1 - floor, 1 + floor), abs=2e-3)
