"""The machinery of the coverage tables."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from harness.calibration.coverage import ACCURACIES, SIZES, Coverage, PairShares, Setting, Stage, holds_truth, simulated
from harness.calibration.early import EarlyCase, simulate_early
from harness.calibration.intervals import FAST, THOROUGH, coverage_stages, run_stage, unproven
from harness.stats import Interval

pytestmark = pytest.mark.unit
SETTING = Setting(200, 0.75, "test")


def coverage(covered: int, pinned: tuple[float, float] = (0.94, 0.97), shown: bool = False) -> Coverage:
    return Coverage("made up", SETTING, simulated(covered, 1000), 1000, pinned, shown)


def test_a_cell_holds_where_its_range_meets_the_pinned_one() -> None:
    assert coverage(950).holds
    assert coverage(930).holds  # 93 % of 1000 may well be 94 %
    assert not coverage(900).holds
    assert not coverage(1000).holds
    shown = json.loads(json.dumps(coverage(900).to_json(), allow_nan=False))
    assert (shown["holds"], shown["n"], shown["interval"]) == (False, 200, "made up")


def test_an_interval_shown_failing_must_fail_somewhere() -> None:
    assert unproven((coverage(950, shown=True), coverage(930, shown=True))) == ("made up",)
    assert unproven((coverage(950, shown=True), coverage(700, shown=True))) == ()


def test_the_truth_is_held_at_the_ends_and_by_what_is_undefined() -> None:
    assert holds_truth(Interval(0.1, 0.0, 0.2), 0.2)
    assert not holds_truth(Interval(0.1, 0.0, 0.2), 0.2001)
    assert holds_truth(None, 0.5)


@pytest.mark.parametrize("accuracy", ACCURACIES)
def test_shares_add_up_and_have_the_accuracy(accuracy: float) -> None:
    shares = PairShares.of(accuracy, 0.3)
    parts = (shares.p11, shares.gained, shares.lost, shares.p00)
    assert sum(parts) == pytest.approx(1)
    assert min(parts) >= 0
    assert shares.p11 + shares.lost == pytest.approx(accuracy)
    assert shares.ratio == pytest.approx((accuracy + shares.difference) / accuracy)
    tables, times = shares.tables(50, 300, "label")
    assert times.sum() == 300
    assert (tables.sum(axis=1) == 50).all()


def test_every_size_and_accuracy_is_simulated_in_both_efforts() -> None:
    for effort, seeds in ((FAST, 40), (THOROUGH, 72)):
        assert effort.sizes == SIZES == (10, 50, 200, 1319)
        names = {stage.name: len(stage.cells) for stage in coverage_stages(effort)}
        assert names["pairs"] == 60
        assert names["proportion"] == 20
        assert names["noise seeds"] == seeds


def test_stages_run_cell_by_cell_and_repeat() -> None:
    stage = coverage_stages(FAST)[1]
    few = Stage("few", stage.cells[5:8])
    ticks: list[int] = []
    first = run_stage(few, ticks.append)
    assert ticks == [1, 1, 1]
    assert run_stage(few) == first
    assert {cell.interval for cell in first} >= {"Tango", "Newcombe", "Tang/Nam ratio", "Wald difference"}


def test_early_stopping_is_judged_by_its_wrong_side() -> None:
    found = simulate_early(EarlyCase(0.08, n=400), 50)
    assert found.wrong == found.decided["within"]
    assert found.problems == ()
    assert (
        simulate_early(EarlyCase(0.0, n=400), 20).wrong == simulate_early(EarlyCase(0.0, n=400), 20).decided["beyond"]
    )
    careless = simulate_early(EarlyCase(0.03, n=100, alpha=0.49, share=1.0), 400)
    assert careless.wrong is not None
    assert careless.wrong.estimate <= 0.49
    assert np.isfinite(found.items) and not math.isnan(found.to_json()["saved"])
