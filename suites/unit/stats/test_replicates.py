"""Statistics over a handful of runs: agreement with scipy and statsmodels, coverage, answers where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW, ttost_ind

from harness.stats.replicates import (
    MAX_SEEDS,
    attainable_p,
    permutation,
    pooled_sd,
    seeds_for_equivalence,
    seeds_needed,
    welch,
    welch_from_summary,
)

pytestmark = pytest.mark.unit

ARM, REFERENCE = [71.2, 69.8, 70.9, 72.4], [68.1, 69.0, 67.2]


def test_welch_agrees_with_statsmodels() -> None:
    found = welch(ARM, REFERENCE)
    peer = CompareMeans(DescrStatsW(ARM), DescrStatsW(REFERENCE))
    low, high = peer.tconfint_diff(0.05, usevar="unequal")
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), rel=1e-8)
    assert found.p == pytest.approx(peer.ttest_ind(usevar="unequal")[1], rel=1e-8)
    assert found.interval.estimate == pytest.approx(np.mean(ARM) - np.mean(REFERENCE))
    assert found.runs == (4, 3) and found.freedom == pytest.approx(peer.dof_satt())


def test_published_means_and_deviations_give_what_the_runs_give() -> None:
    means, sds = zip(*((float(np.mean(runs)), float(np.std(runs, ddof=1))) for runs in (ARM, REFERENCE)), strict=True)
    found, full = welch_from_summary(means, sds, (4, 3)), welch(ARM, REFERENCE)
    assert (found.interval.low, found.interval.high, found.p, found.freedom) == pytest.approx(
        (full.interval.low, full.interval.high, full.p, full.freedom), rel=1e-9
    )


@pytest.mark.parametrize("runs", [2, 4])
def test_welch_covers_the_truth_as_often_as_it_says(runs: int) -> None:
    rng = np.random.default_rng([7, runs])
    arms, references = rng.normal(0.5, 1.2, (400, runs)), rng.normal(0, 1.2, (400, runs))
    found = [welch(arm, reference).interval for arm, reference in zip(arms, references, strict=True)]
    covered = float(np.mean([interval.low <= 0.5 <= interval.high for interval in found]))
    assert 0.92 <= covered <= 0.997


def test_one_run_has_no_interval_and_no_p() -> None:
    found = welch([70.0], [68.0, 69.0])
    assert (found.interval.low, found.interval.high, found.p, found.degenerate) == (-math.inf, math.inf, None, False)
    assert found.interval.estimate == 1.5
    assert found.to_json()["low"] is None and found.to_json()["degrees_of_freedom"] is None


def test_runs_without_any_spread_are_degenerate_and_never_significant() -> None:
    for found in (
        welch([70.0, 70.0], [60.0, 60.0]),
        welch_from_summary((70.0, 60.0), (0.0, 0.0), (3, 3)),
    ):
        assert (found.degenerate, found.p, found.interval.high) == (True, None, math.inf)


@pytest.mark.filterwarnings("error")
def test_one_arm_without_spread_leaves_that_of_the_other() -> None:
    """Equal up to rounding, which scipy would warn of: t on the other arm's degrees of freedom."""
    same, spread = [0.1 + 0.2, 0.3, 0.3], [0.5, 0.7, 0.4, 0.6]
    found = welch(same, spread)
    low, high = stats.t.interval(0.95, 3, 0.3 - np.mean(spread), stats.sem(spread))
    assert not found.degenerate and found.freedom == pytest.approx(3)
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), abs=1e-9)
    assert found.p == pytest.approx(stats.ttest_1samp(spread, 0.3).pvalue, abs=1e-9)
    assert welch(same, [0.5, 0.5]).degenerate


@pytest.mark.parametrize(
    ("runs", "reference", "paired", "least"),
    [(3, 3, False, 0.1), (4, 4, False, 2 / 70), (2, 1, False, 2 / 3), (1, 1, False, 1.0), (5, 5, True, 2 / 32)],
)
def test_the_least_attainable_p_is_reached_by_the_clearest_data(
    runs: int, reference: int, paired: bool, least: float
) -> None:
    assert attainable_p(runs, reference, paired) == pytest.approx(least)
    found = permutation(np.arange(runs) + 100.0, np.arange(reference) * 2.0, paired)
    assert (found.p, found.attainable, found.exact) == (pytest.approx(least), pytest.approx(least), True)


def test_the_permutation_test_is_exact_and_mixed_data_are_not_significant() -> None:
    found = permutation(ARM, REFERENCE)
    peer = stats.permutation_test((ARM, REFERENCE), lambda a, b: np.mean(a) - np.mean(b), n_resamples=np.inf)
    assert found.p == pytest.approx(float(peer.pvalue)) and found.arrangements == 35
    assert permutation([1.0, 4.0, 2.5], [2.0, 3.0, 2.6]).p > 0.5
    assert permutation([5.0, 5.0], [5.0, 5.0]).p == 1.0
    assert permutation([2.0], [1.0, 3.0, 4.0]).p == 1.0
    assert permutation([1.0, 3.0, 4.0], [0.5]).p == pytest.approx(0.5)


def test_many_runs_are_sampled_with_a_generator_of_their_own() -> None:
    rng = np.random.default_rng(3)
    arm, reference = rng.normal(0, 1, 14), rng.normal(0, 1, 14)
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first, again = permutation(arm, reference), permutation(arm, reference)
    assert (np.random.get_state()[1] == before).all()
    assert first == again and not first.exact
    assert first.p == pytest.approx(float(stats.ttest_ind(arm, reference).pvalue), abs=0.03)


def test_the_pooled_deviation_is_that_within_groups() -> None:
    groups = [[67.48, 68.54, 71.19], [69.4, 68.92], [70.0]]
    found = pooled_sd(groups)
    squares = sum(np.var(group, ddof=1) * (len(group) - 1) for group in groups if len(group) > 1)
    assert (found.sd, found.freedom) == (pytest.approx(math.sqrt(squares / 3)), 3)
    assert found.half_width(1, 1) == pytest.approx(stats.t.ppf(0.975, 3) * found.sd * math.sqrt(2))
    assert found.half_width(2, 3) == pytest.approx(stats.t.ppf(0.975, 3) * found.sd * math.sqrt(5 / 6))


def test_without_replicates_there_is_no_spread_and_everything_is_explained() -> None:
    found = pooled_sd([[70.0], []])
    assert math.isnan(found.sd) and found.freedom == 0 and found.half_width(1, 1) == math.inf


@pytest.mark.parametrize("difference", [0.5, 1.0, 2.42, 5.0])
def test_seeds_needed_is_the_first_number_with_the_power(difference: float) -> None:
    runs = seeds_needed(difference, 1.23)
    assert runs is not None
    powers = [TTestIndPower().power(difference / 1.23, count, 0.05) for count in (runs, runs - 1)]
    assert powers[0] >= 0.8 and (runs == 2 or powers[1] < 0.8)
    assert seeds_needed(-difference, 1.23) == runs


def test_seeds_needed_at_its_ends() -> None:
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1.0, math.nan) is None
    assert seeds_needed(1.0, 0.0) == 2
    assert seeds_needed(1000.0, 1.0) == 2
    assert seeds_needed(1e-6, 1.0) is None
    found = seeds_needed(0.05, 1.23)
    assert found is not None and 9000 < found <= MAX_SEEDS


def test_seeds_for_equivalence_have_the_power_in_simulation() -> None:
    runs = seeds_for_equivalence(2.0, 1.0)
    assert runs is not None
    rng = np.random.default_rng(11)

    def shown(count: int) -> float:
        pairs = rng.normal(0, 1, (800, 2, count))
        return float(np.mean([ttost_ind(arm, other, -2.0, 2.0)[0] < 0.05 for arm, other in pairs]))

    assert shown(runs) >= 0.76 and shown(runs - 1) <= 0.84
    assert seeds_for_equivalence(0.0, 1.0) is None and seeds_for_equivalence(1.0, 0.0) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda: welch([], [1.0]),
        lambda: welch([math.nan, 1.0], [1.0]),
        lambda: welch([[1.0]], [1.0]),
        lambda: permutation([1.0, 2.0], [1.0], paired=True),
        lambda: welch_from_summary((1.0, 2.0), (-1.0, 1.0), (3, 3)),
        lambda: welch([1.0, 2.0], [1.0, 3.0], alpha=0.7),
    ],
)
def test_what_are_no_runs_is_refused(call) -> None:
    with pytest.raises(ValueError, match=r"."):
        call()
