"""One-sided error rates at a drop equal to the margin: item means, clusters, whole gates."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from harness.calibration.errors import error_jobs, run_errors, wrong_fails
from harness.calibration.losses import (
    BEFORE,
    MOST_WRONG,
    NULL,
    PSEUDO,
    USED,
    VALUES,
    LossCase,
    cluster_rates,
    decisions,
    loss_cases,
    loss_rates,
    mean_widths,
    shares_of,
)
from harness.stats import paired_mean
from harness.stats.bootstrap import private_generator
from suites.contract.rival_bounds import betting_decisions, counts_of, draw_items, likelihood_decisions

log = logging.getLogger(__name__)


def check_losses(repetitions: int, cases: tuple[LossCase, ...]) -> None:
    found = [loss_rates(case, repetitions) for case in cases]
    assert [(rates.case, rates.problems) for rates in found if rates.problems] == []
    worst = {name: max(rates.passing[name] for rates in found) for name in (BEFORE, PSEUDO)}
    assert worst[BEFORE] > 0.11 and worst[PSEUDO] > MOST_WRONG  # what the bound in use is better than
    assert max(rates.failing[NULL] for rates in found) > MOST_WRONG
    for rates in found:
        log.info("%s %s", rates.case, {name: (rates.passing[name], rates.failing[name]) for name in rates.passing})


@pytest.mark.contract
def test_false_pass_and_false_fail_stay_below_the_bound() -> None:
    few = (100, 200)
    check_losses(1500, tuple(case for case in loss_cases() if case.n in few and case.margin in (0.02, 0.03)))


@pytest.mark.thorough
def test_thorough_false_pass_and_false_fail() -> None:
    check_losses(20_000, loss_cases())


@pytest.mark.contract
def test_other_bounds_err_more_often_or_decide_less() -> None:
    """Adjusted empirical likelihood at small n; a betting bound where nothing changed."""
    drawn = draw_items("lost whole", 100, 0.015, 1000)
    likelihood = likelihood_decisions(counts_of(drawn), 100, 0.015)
    assert (likelihood > 0).mean() > 0.15
    assert (decisions(counts_of(drawn), 100, 0.015)[USED] > 0).mean() < 0.10
    assert (betting_decisions(drawn, 0.015) > 0).mean() <= 0.05
    same = draw_items("mild flips both ways", 200, 0.0, 1000)
    ours = (decisions(counts_of(same), 200, 0.03)[USED] > 0).mean()
    assert ours - (betting_decisions(same, 0.03) > 0).mean() > 0.15
    assert abs(ours - (likelihood_decisions(counts_of(same), 200, 0.03) > 0).mean()) < 0.02


@pytest.mark.thorough
def test_thorough_other_bounds() -> None:
    worst = dict.fromkeys(("in use", "likelihood", "betting"), (0.0, 0.0))
    for case in loss_cases():
        drawn = draw_items(case.kind, case.n, case.margin, 3000)
        counts = counts_of(drawn)
        found = {
            "in use": decisions(counts, case.n, case.margin)[USED],
            "likelihood": likelihood_decisions(counts, case.n, case.margin),
            "betting": betting_decisions(drawn, case.margin),
        }
        for name, each in found.items():
            passing, failing = worst[name]
            worst[name] = max(passing, float((each > 0).mean())), max(failing, float((each < 0).mean()))
    log.info("%s", worst)
    assert max(worst["in use"]) <= MOST_WRONG and max(worst["betting"]) <= 0.055
    assert min(worst["likelihood"]) > 0.10


@pytest.mark.contract
def test_the_simulated_decisions_are_those_of_the_interval() -> None:
    rng = private_generator(0, "decisions")
    for kind in ("lost whole", "mild flips both ways", "many small losses, rare whole gains"):
        counts = rng.multinomial(150, shares_of(kind, 0.03), size=25)
        expected = decisions(counts, 150, 0.03)[USED]
        for row, decided in zip(counts, expected, strict=True):
            found = paired_mean(np.repeat(VALUES, row))
            assert decided == int(found.low > -0.03) - int(found.high < -0.03)


@pytest.mark.contract
def test_the_mild_case_is_hardly_wider() -> None:
    widths = mean_widths(200, 20)
    assert 1.0 <= widths[USED] / widths[BEFORE] < 1.10


@pytest.mark.contract
@pytest.mark.parametrize(("levels", "at_least"), [(3, 0.10), (6, 0.18)])
def test_a_whole_gate_fails_wrongly_as_seldom_as_one_level(levels: int, at_least: float) -> None:
    found = wrong_fails(levels, 2000)
    log.info("%s", found)
    assert found.other_failing > at_least and found.failing <= MOST_WRONG


@pytest.mark.contract
def test_the_quick_calibration_holds_and_would_notice() -> None:
    found = run_errors(error_jobs())
    assert [(case.name, case.problems) for case in found if case.problems] == []
    assert {case.name for case in found} >= {"lost whole", "whole gate over 6 levels", "clusters of 10 items"}
    for case in found:
        if case.name in ("lost whole", "whole gate over 6 levels", "clusters of 10 items"):
            worse = replace(case, passing=case.other_passing, failing=case.other_failing)
            assert worse.problems


@pytest.mark.thorough
@pytest.mark.parametrize("size", [4, 10])
def test_clusters_that_move_together(size: int) -> None:
    found = cluster_rates(400, size, 0.03, 2000)
    log.info("clusters of %d: %s", size, found)
    assert max(found["items"]) > 0.12
    assert max(found["clusters"]) <= MOST_WRONG + 0.015
