"""Units of a mean: how many they are worth, their estimate and their spread."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats.checks import DIFFERENCES, FRACTIONS
from harness.stats.units import Units

pytestmark = pytest.mark.unit


def test_items_by_themselves_are_worth_their_number() -> None:
    scores = np.array([[0.0], [1.0], [1.0], [0.5]])
    units = Units.of_scores(scores, FRACTIONS)
    assert (units.n, units.worth, units.plain, units.estimate) == (4, 4.0, True, 0.625)
    assert units.variance(0.0) == pytest.approx(np.var(scores, ddof=1))
    assert units.spread(0.625).error == pytest.approx(np.std(scores, ddof=1) / 2)


def test_unequal_clusters_count_as_fewer() -> None:
    scores = np.ones((4, 1))
    units = Units.of_scores(scores, FRACTIONS, ["a", "a", "a", "b"])
    assert units.n == 2 and not units.plain
    assert units.worth == pytest.approx(2 / ((9 + 1) / 2 / 2**2))
    assert Units.of_scores(scores, FRACTIONS, ["a", "a", "b", "b"]).worth == pytest.approx(2)


def test_a_ratio_is_that_of_the_means_and_moves_with_the_tested_value() -> None:
    noisy, clean = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, 1.0])
    units = Units.of_ratio(noisy, clean)
    assert units.estimate == 0.75
    assert units.variance(0.0) == pytest.approx(0.125)
    apart = Units.of_ratio(np.array([[1.0], [0.0]]), np.array([1.0, 0.5]))
    assert apart.variance(0.0) != apart.variance(1.0)


def test_the_range_says_how_far_an_item_can_move_a_mean() -> None:
    assert Units.of_scores(np.zeros((3, 1)), DIFFERENCES).reach == DIFFERENCES.most
