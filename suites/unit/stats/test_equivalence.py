"""Equivalence of the means of two samples."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from statsmodels.stats.weightstats import ttost_ind

from harness.stats import ScoreError, equivalence_independent

pytestmark = pytest.mark.unit


def test_tost_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(0, 1, 50), rng.normal(0.05, 1.2, 50)
    assert equivalence_independent(first, second, 0.4).p_value == pytest.approx(
        float(ttost_ind(first, second, -0.4, 0.4, usevar="unequal")[0]), abs=1e-8
    )


@pytest.mark.parametrize("values", [[], [0.1], [0.0] * 10])
def test_without_spread_or_items_nothing_is_established(values: list[float]) -> None:
    found = equivalence_independent(values, values, 0.1)
    assert found.p_value is None
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
def test_a_margin_is_above_0(margin: float) -> None:
    with pytest.raises(ScoreError, match="a margin is above 0"):
        equivalence_independent([1, 2, 3], [1, 2, 4], margin)
