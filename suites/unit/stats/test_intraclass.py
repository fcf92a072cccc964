"""The intra-cluster correlation: what the simulation put in, its interval's coverage, and its effect on a variance."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats import cluster_standard_error
from harness.stats.checks import ScoreError
from harness.stats.intraclass import design_effect, effective_clusters, intraclass

pytestmark = pytest.mark.unit


def drawn(rng: np.random.Generator, correlation: float, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    names = np.repeat(np.arange(len(sizes)), sizes)
    common = rng.normal(0, correlation**0.5, len(sizes))[names]
    return common + rng.normal(0, (1 - correlation) ** 0.5, len(names)), names


@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_estimate_and_interval(correlation: float) -> None:
    rng = np.random.default_rng(1)
    found = [intraclass(*drawn(rng, correlation, np.full(40, 5))) for _ in range(400)]
    assert np.mean([each.estimate for each in found]) == pytest.approx(correlation, abs=0.02)
    assert np.mean([each.low <= correlation <= each.high for each in found]) == pytest.approx(0.95, abs=0.03)


def test_the_worked_example_of_the_analysis_of_variance() -> None:
    # means 2 and 6, grand mean 4: between 3 * (4 + 4) / 1 = 24, within (2 + 2) / 4 = 1, so 23 / (24 + 2)
    assert intraclass([1, 2, 3, 5, 6, 7], list("aaabbb")).estimate == pytest.approx(23 / 26)


def test_values_that_do_not_differ_within_or_at_all() -> None:
    assert intraclass([0, 0, 1, 1], list("aabb")).estimate == 1.0
    assert intraclass([1, 1, 1, 1], list("aabb")).estimate == 0.0


@pytest.mark.parametrize("names", ["aaaa", "abcd"])
def test_nothing_to_compare_is_refused(names: str) -> None:
    with pytest.raises(ScoreError, match="two clusters"):
        intraclass([1, 0, 1, 0], list(names))


def test_the_design_effect_is_that_of_the_cluster_robust_error() -> None:
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 12, 3000)
    values, names = drawn(rng, 0.4, sizes)
    robust = cluster_standard_error(values, names) ** 2
    plain = values.var() / len(values)
    assert design_effect(0.4, names) == pytest.approx(robust / plain, rel=0.08)
    assert design_effect(-0.2, names) == 1.0
    assert effective_clusters(list("aabbcc")) == pytest.approx(3) and effective_clusters(list("aaab")) == 1.6
