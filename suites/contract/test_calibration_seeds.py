"""Coverage of the intervals over noise seeds, training runs and continuous scores, beside pooled rows."""

from __future__ import annotations

import pytest

from harness.calibration.intervals import FAST, THOROUGH, Effort
from suites.contract.calibration_checks import cells_of, mean, shares


def check_seeds(effort: Effort, slack: float) -> None:
    found = cells_of(effort, "noise seeds")
    two_way = shares(found, "two-way item x seed", least_n=200)
    assert 0.93 <= mean(two_way) <= 0.955
    assert min(two_way) > 0.94 - slack
    for name in ("item means (seeds fixed)", "pooled rows"):
        assert max(shares(found, name, least_n=1319, spread="seed sd 0.05")) < 0.45
    kept = shares(found, "two-way retention", least_n=200)
    assert 0.93 <= mean(kept) <= 0.96
    assert min(kept) > 0.93 - slack
    assert max(shares(found, "retention over items (seeds fixed)", least_n=1319, spread="seed sd 0.05")) < 0.6
    pooled = shares(found, "pooled rows", spread="draws by item")
    by_item = shares(found, "item means (t)")
    assert min(pooled) < 0.5
    assert min(by_item) > 0.935 - slack


@pytest.mark.contract
def test_two_way_and_item_means_hold_and_pooled_rows_do_not() -> None:
    check_seeds(FAST, slack=0.03)


def check_others(effort: Effort) -> None:
    found = cells_of(effort, "training runs and continuous scores")
    assert 0.93 <= mean(shares(found, "training seed -> noise seed -> item (t)")) <= 0.97
    assert max(shares(found, "pooled rows")) < 0.65
    assert 0.93 <= mean(shares(found, "perplexity ratio (log)")) <= 0.97
    assert 0.93 <= mean(shares(found, "continuous mean (t)")) <= 0.97


@pytest.mark.contract
def test_training_runs_rewards_and_perplexity() -> None:
    check_others(FAST)


@pytest.mark.thorough
def test_thorough_coverage_over_seeds() -> None:
    check_seeds(THOROUGH, slack=0.005)
    check_others(THOROUGH)
