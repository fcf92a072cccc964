"""Items by noise seeds, and training seed by noise seed by item."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from harness.stats import FRACTIONS, REAL, hierarchical_mean, paired_mean, two_way_mean, zero_discordance
from harness.stats.clustered import cluster_standard_error
from harness.stats.mean_squares import mean_squares

pytestmark = pytest.mark.unit


def layout(items: int, seeds: int, seed_sd: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(items + seeds)
    values = rng.normal(0, 0.2, (items, 1)) + rng.normal(0, seed_sd, (1, seeds)) + rng.normal(0, 0.1, (items, seeds))
    return np.clip(values, -1, 1)


def test_the_mean_squares_are_those_of_an_analysis_of_variance() -> None:
    import pandas as pd

    table = layout(9, 6)
    item, seed = np.indices(table.shape)
    frame = pd.DataFrame({"y": table.ravel(), "item": item.ravel(), "seed": seed.ravel()})
    reference = anova_lm(ols("y ~ C(item) + C(seed)", frame).fit())
    found = mean_squares(table)
    expected = reference["mean_sq"]
    assert (found.by_item, found.by_seed, found.residual) == pytest.approx(
        (expected["C(item)"], expected["C(seed)"], expected["Residual"]), abs=1e-8
    )


def test_the_variance_is_the_two_way_cluster_variance() -> None:
    """Cameron, Gelbach and Miller: by item + by seed - by cell, each with its G / (G - 1)."""
    table = layout(40, 30)
    item, seed = (index.ravel() for index in np.indices(table.shape))
    values = table.ravel()
    parts = [cluster_standard_error(values, names) ** 2 for names in (item, seed)]
    # the cells that both count, as residuals of both effects
    squares = mean_squares(table)
    assert squares.variance == pytest.approx(sum(parts) - squares.residual / table.size, rel=1e-9)


def test_without_seed_effect_it_is_near_the_interval_over_items() -> None:
    table = layout(400, 10, seed_sd=0.0)
    ours, items = two_way_mean(table), paired_mean(table.mean(axis=1))
    assert (ours.low, ours.high) == pytest.approx((items.low, items.high), rel=0.15)


def test_a_seed_effect_decides_the_width_and_the_degrees_of_freedom() -> None:
    table = layout(1000, 5, seed_sd=0.2)
    found = two_way_mean(table)
    means = table.mean(axis=0)
    half = stats.t.isf(0.05, 4) * means.std(ddof=1) / math.sqrt(5)
    assert 4 <= found.freedom < 4.2
    assert found.high - found.estimate == pytest.approx(half, rel=0.05)
    assert found.seed_variance == pytest.approx(means.var(ddof=1), rel=0.05)
    assert not found.conditional
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["seed_variance"] > 0.01


def test_few_seeds_are_conditional_and_use_the_items_alone() -> None:
    table = layout(100, 4)
    found, items = two_way_mean(table), paired_mean(table.mean(axis=1))
    assert found.conditional
    assert (found.low, found.high) == pytest.approx((items.low, items.high), abs=1e-12)
    assert not two_way_mean(table, least_seeds=2).conditional


def test_degenerate_tables_have_a_state() -> None:
    for shape in ((0, 0), (0, 5), (1, 5), (1, 1)):
        found = two_way_mean(np.zeros(shape), limits=FRACTIONS)
        assert (found.low, found.high, found.conditional) == (0.0, 1.0, True)
    same = two_way_mean(np.zeros((50, 5)))
    assert same.high == -same.low == pytest.approx(zero_discordance(50), rel=0.05)  # t on 49 instead of z
    assert same.high > zero_discordance(50)
    assert (two_way_mean(np.zeros((50, 5)), limits=REAL).low) == -math.inf


def test_a_residual_that_hides_both_effects_leaves_the_larger_one() -> None:
    table = np.where(np.indices((6, 6)).sum(axis=0) % 2, 5.0, -5.0)  # items and seeds have equal means, cells differ
    table[0, 0] += 0.5
    found, squares = two_way_mean(table, limits=REAL), mean_squares(table)
    assert squares.variance < 0
    assert found.freedom == 5
    half = stats.t.isf(0.05, 5) * math.sqrt(max(squares.by_item, squares.by_seed) / 36)
    assert found.high - found.estimate == pytest.approx(half, rel=1e-9)


def cube(runs: int, seeds: int = 3, items: int = 50) -> np.ndarray:
    rng = np.random.default_rng(runs)
    return np.clip(rng.normal(0, 0.05, (runs, 1, 1)) + rng.normal(0, 0.2, (runs, seeds, items)), -1, 1)


def test_training_seeds_are_the_top_level() -> None:
    values = cube(5)
    found = hierarchical_mean(values)
    low, high = stats.t.interval(0.9, 4, values.mean(), stats.sem(values.mean(axis=(1, 2))))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-10)
    assert (found.training_seeds, found.freedom, found.no_claim) == (5, 4, False)
    assert found.item_variance == pytest.approx(0.04, rel=0.1)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["training_seeds"] == 5


def test_new_items_add_their_spread() -> None:
    values = cube(5) + np.random.default_rng(1).normal(0, 0.2, 50)[None, None, :] * 0.9
    values = np.clip(values, -1, 1)
    fixed, new = hierarchical_mean(values), hierarchical_mean(values, new_items=True)
    both = two_way_mean(values.mean(axis=1).T)
    assert (new.low, new.high) == (both.low, both.high)
    assert new.estimate == fixed.estimate


def test_one_training_seed_claims_nothing() -> None:
    found = hierarchical_mean(cube(1))
    assert (found.low, found.high, found.no_claim) == (-1.0, 1.0, True)
    assert hierarchical_mean(np.zeros((0, 0, 0))).no_claim
    with pytest.raises(ValueError, match="training seeds by noise seeds by items"):
        hierarchical_mean([[0.1, 0.2]])


def test_equal_training_runs_still_leave_open_what_their_items_do() -> None:
    found = hierarchical_mean(np.zeros((3, 2, 40)))
    assert found.high == -found.low == pytest.approx(zero_discordance(40))
    single = hierarchical_mean(np.full((3, 1, 1), 0.2), limits=FRACTIONS)
    assert 0 <= single.low < 0.2 < single.high <= 1
