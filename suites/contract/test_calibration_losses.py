"""One-sided error rates at a drop equal to the margin: item means, clusters, whole gates."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from harness.gates.families import judge_levels
from harness.gates.parts import Part
from harness.gates.policy import FIXED_SEQUENCE
from harness.gates.verdicts import FAIL, INCONCLUSIVE
from harness.stats import mean_tails, paired_mean
from harness.stats.bootstrap import private_generator
from harness.stats.coverage_losses import (
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


def wrong_fails(levels: int, repetitions: int) -> dict[str, float]:
    """How often some level FAILs where each has a drop equal to its margin: each for itself, and adjusted by Holm."""
    rng = private_generator(0, f"whole gate {levels}")
    pool = [np.repeat(VALUES, row) for row in rng.multinomial(200, shares_of("mild flips both ways", 0.03), size=600)]
    p_values = np.array([mean_tails(values, -0.03).below for values in pool])
    alone = adjusted = 0
    for _ in range(repetitions):
        drawn = rng.choice(p_values, levels)
        parts = {float(i): (Part(INCONCLUSIVE, "", None, True, 1.0, float(p)),) for i, p in enumerate(drawn)}
        alone += bool((drawn <= 0.05).any())
        adjusted += any(verdict == FAIL for verdict, _ in judge_levels(FIXED_SEQUENCE, parts, 0.05).values())
    return {"alone": alone / repetitions, "adjusted": adjusted / repetitions}


@pytest.mark.contract
@pytest.mark.parametrize(("levels", "at_least"), [(3, 0.10), (6, 0.18)])
def test_a_whole_gate_fails_wrongly_as_seldom_as_one_level(levels: int, at_least: float) -> None:
    found = wrong_fails(levels, 2000)
    log.info("%d levels: %s", levels, found)
    assert found["alone"] > at_least and found["adjusted"] <= MOST_WRONG


@pytest.mark.thorough
@pytest.mark.parametrize("size", [4, 10])
def test_clusters_that_move_together(size: int) -> None:
    found = cluster_rates(400, size, 0.03, 2000)
    log.info("clusters of %d: %s", size, found)
    assert max(found["items"]) > 0.12
    assert max(found["clusters"]) <= MOST_WRONG + 0.015
