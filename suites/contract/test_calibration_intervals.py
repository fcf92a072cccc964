"""Coverage of the intervals for right and wrong answers, beside intervals that fail."""

from __future__ import annotations

import pytest

from harness.calibration.intervals import FAST, THOROUGH, Effort
from suites.contract.calibration_checks import cells_of, mean, shares


def check_pairs(effort: Effort) -> None:
    found = cells_of(effort, "pairs")
    for name in ("Tango", "Tang/Nam ratio"):
        assert 0.94 <= mean(shares(found, name, least_n=200)) <= 0.97
        assert min(shares(found, name)) > 0.92
    assert min(shares(found, "Wald difference")) < 0.2
    assert min(shares(found, "Wald ratio (log)")) < 0.2


@pytest.mark.contract
def test_tango_and_the_ratio_hold_and_wald_does_not() -> None:
    check_pairs(FAST)


@pytest.mark.contract
def test_wilson_holds_exactly_and_wald_does_not() -> None:
    found = cells_of(FAST, "proportion")
    assert 0.92 < min(shares(found, "Wilson")) < 0.93
    assert min(shares(found, "Wald")) < 0.2
    assert shares(found, "Wilson", least_n=1319)[:4] == pytest.approx([0.952, 0.951, 0.951, 0.952], abs=0.001)


@pytest.mark.contract
def test_the_bootstraps_are_too_narrow_for_few_items_and_few_runs() -> None:
    found = cells_of(FAST, "bootstraps")
    for name in ("percentile bootstrap", "BCa bootstrap"):
        runs = shares(found, name, spread="training runs")
        assert runs[0] < 0.87  # 3 training runs
        assert min(shares(found, name)) < 0.6
        assert mean(shares(found, name, least_n=200)) > 0.93


@pytest.mark.thorough
def test_thorough_coverage_of_binary_intervals() -> None:
    check_pairs(THOROUGH)
    cells_of(THOROUGH, "bootstraps", "proportion")
