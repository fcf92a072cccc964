"""The gate on distributions: A/A runs do not FAIL, and at the margin wrong verdicts stay rare; so they do for both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.calibration.coverage import simulated
from harness.calibration.distributions import (
    CHANGE,
    SAME,
    DistributionCase,
    DistributionShares,
    distribution_cases,
    run_distributions,
    simulate_distributions,
)
from harness.stats.skewed import SkewedMean


def check(thorough: bool) -> None:
    found = run_distributions(distribution_cases(thorough))
    assert [(each.case, each.problems) for each in found if each.problems] == []
    slack = 0.0 if thorough else 0.03
    for each in found:
        assert each.failing.estimate <= 0.05 + slack, each.case
        if each.case.apart == SAME:
            assert (each.passing.estimate, each.failing.estimate) == (1, 0)
    assert sum(each.case.at_margin for each in found) >= 3


@pytest.mark.contract
def test_two_recordings_that_differ_by_draws_alone_do_not_fail() -> None:
    check(thorough=False)


@pytest.mark.thorough
def test_thorough_distributions() -> None:
    check(thorough=True)


@pytest.mark.contract
def test_a_gate_that_is_wrong_more_often_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Student's t in place of Hall's: a sample that shows little of its tail PASSes too often."""
    case = DistributionCase("planted", 64, CHANGE, sigma=2.0)
    monkeypatch.setattr(SkewedMean, "of", classmethod(_without_skewness(SkewedMean.of)))
    assert any("wrong PASS" in words for words in simulate_distributions(case, 150).problems)
    few = simulated(0, 100), simulated(20, 100), simulated(70, 100)
    problems = DistributionShares(case, *few, 100).problems
    assert [words.split(" 0.")[0] for words in problems] == ["wrong FAIL", "coverage"]


def _without_skewness(honest):
    return lambda cls, *given: replace(honest(*given), skewness=0.0)
