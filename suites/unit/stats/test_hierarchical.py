"""Training seed, noise seed, item: the training runs decide, and one of them decides nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.stats.checks import FRACTIONS, ScoreError
from harness.stats.hierarchical import hierarchical_mean

pytestmark = pytest.mark.unit


def cube(runs: int, seeds: int, items: int, spread: float) -> np.ndarray:
    draws = np.random.default_rng(3)
    level = 0.5 + spread * draws.standard_normal((runs, 1, 1))
    return np.clip(level + 0.05 * draws.standard_normal((runs, seeds, items)), 0, 1)


def test_it_is_students_interval_of_the_runs_means() -> None:
    scores = cube(6, 3, 400, 0.1)
    found = hierarchical_mean(scores, 0.05, FRACTIONS)
    means = scores.mean(axis=(1, 2))
    low, high = stats.t.interval(0.9, 5, means.mean(), stats.sem(means))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.training_seeds, found.freedom, found.no_claim) == (6, 5.0, False)
    assert found.training_variance > 10 * found.noise_variance


def test_one_training_seed_is_no_claim() -> None:
    found = hierarchical_mean(cube(1, 3, 20, 0.1), 0.05, FRACTIONS)
    assert found.no_claim and (found.low, found.high) == (0.0, 1.0)
    assert found.to_json()["no_claim"] is True


def test_new_items_widen_it() -> None:
    scores = cube(5, 2, 600, 0.0)
    scores[:, :, :200] = 0.0
    these, others = (hierarchical_mean(scores, 0.05, FRACTIONS, new_items=new) for new in (False, True))
    assert others.high - others.low > these.high - these.low


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ScoreError, match="training seeds by noise seeds by items"):
        hierarchical_mean(np.zeros((3, 4)))
