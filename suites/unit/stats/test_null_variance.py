"""The variance under the hypothesis, held against Tango's for differences of right and wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.stats.null_variance import beyond_null, null_variance, outermost

pytestmark = pytest.mark.unit


def tango(lost: int, gained: int, n: int, delta: float) -> float:
    """Variance of one pair's difference if the true difference is ``delta`` (Tango 1998), from its formula."""
    b = -lost - gained + (2 * n - gained + lost) * delta
    q = (math.sqrt(b * b - 8 * n * (-lost * delta * (1 - delta))) - b) / (4 * n)
    return 2 * q + delta * (1 - delta)


@pytest.mark.parametrize(("lost", "gained", "delta"), [(3, 1, -0.05), (8, 2, -0.2), (0, 4, 0.2), (5, 5, 0.03)])
def test_for_right_and_wrong_it_is_tangos(lost: int, gained: int, delta: float) -> None:
    n = 50
    values = np.array([-1.0, 0.0, 1.0])
    weights = np.array([lost, n - lost - gained, gained]) / n
    found = float(null_variance(values - delta, weights, -1 - delta, 1 - delta))
    assert found == pytest.approx(tango(lost, gained, n, delta), rel=1e-9)


def test_at_the_samples_own_mean_it_is_the_samples() -> None:
    distances, weights = np.array([-0.5, 0.5]), np.array([0.5, 0.5])
    assert float(null_variance(distances, weights, -1, 1)) == pytest.approx(0.25)


def test_beyond_has_the_sign_of_the_comparison() -> None:
    distances, weights = np.array([-0.9, 0.1]), np.array([0.02, 0.98])
    gap, variance = float((weights * distances).sum()), float(null_variance(distances, weights, -1, 1))
    for accepted in (0.5 * gap * gap / variance, 2 * gap * gap / variance):
        beyond = float(beyond_null(distances, weights, -1, 1, accepted)) > 0
        assert beyond == (gap * gap > accepted * variance)


def test_the_outermost_accepted_value_is_found_or_the_end() -> None:
    assert outermost(lambda x: x - 0.3, 0.0, 1.0) == pytest.approx(0.3)
    assert outermost(lambda x: -1.0, 0.0, 1.0) == 1.0
    assert outermost(lambda x: 1.0, 0.2, 1.0) == 0.2
