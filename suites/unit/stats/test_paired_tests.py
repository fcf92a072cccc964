"""Every paired test as an object: its interval, its p-values and its items tell the same story."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats.paired_tests import (
    MeanRatioTest,
    MeanTest,
    PairedTest,
    RatioScoreTest,
    TangoTest,
    TwoWayRatioTest,
    TwoWayTest,
)

pytestmark = pytest.mark.unit
RNG = np.random.default_rng(3)
CLEAN = (RNG.random(240) < 0.8).astype(float)
TABLE = (RNG.random((240, 6)) < 0.7) * CLEAN[:, None]
GROUPS = np.arange(240) // 4
TESTS: dict[str, PairedTest] = {
    "tango": TangoTest(30, 12, 240),
    "ratio score": RatioScoreTest(150, 5, 40, 45),
    "means": MeanTest(TABLE.mean(axis=1) - CLEAN),
    "means of clusters": MeanTest(TABLE.mean(axis=1) - CLEAN, GROUPS),
    "ratio of means": MeanRatioTest(TABLE.mean(axis=1), CLEAN),
    "ratio of cluster means": MeanRatioTest(TABLE.mean(axis=1), CLEAN, GROUPS),
    "two-way": TwoWayTest(TABLE - CLEAN[:, None]),
    "two-way ratio": TwoWayRatioTest(TABLE, CLEAN),
}


@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_the_p_at_a_bound_of_the_interval_is_alpha(test: PairedTest, alpha: float) -> None:
    found = test.interval(alpha)
    assert found is not None and found.low < found.estimate < found.high
    assert test.tails(found.low).above == pytest.approx(alpha, rel=1e-3)
    assert test.tails(found.high).below == pytest.approx(alpha, rel=1e-3)


@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
def test_what_lies_further_off_is_less_likely(test: PairedTest) -> None:
    found = test.interval(0.05)
    assert found is not None
    below = [test.tails(found.estimate - step).above for step in (0.01, 0.03, 0.06)]
    assert below == sorted(below, reverse=True)


@pytest.mark.parametrize("name", ["tango", "ratio score", "means", "means of clusters", "ratio of means"])
def test_more_items_are_needed_for_a_bound_that_lies_closer(name: str) -> None:
    test = TESTS[name]
    found = test.interval(0.05)
    assert found is not None
    near, far = (test.items_needed(found.estimate - step, 0.05) for step in (0.02, 0.05))
    assert near is not None and far is not None and near > far > 0


def test_shared_draws_may_need_seeds_rather_than_items() -> None:
    assert [TESTS[name].items_needed(0.0, 0.05) for name in ("two-way", "two-way ratio")] == [None, None]


def test_clusters_are_named() -> None:
    assert TESTS["means of clusters"].name == "item means, over 60 clusters"
    assert TESTS["means"].name == "item means"
