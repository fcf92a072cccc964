"""One checkpoint against itself at another level."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.exceptions import HarnessError
from harness.gates import FAIL, INCONCLUSIVE, INVALID, PASS, compare_levels
from harness.record import EXTERNAL, Arm, Certificate
from harness.stats import paired_mean, tango

pytestmark = pytest.mark.unit
Build = Callable[..., Arm]


def rows(right: int, n: int) -> list[int]:
    return [1] * right + [0] * (n - right)


def test_one_draw_beside_one_draw_uses_tango(arm: Build) -> None:
    found = compare_levels(arm({0.0: rows(180, 200), 0.05: rows(170, 200)}), 0.05)
    assert found.difference == tango(10, 0, 200)
    assert (found.n, found.total, found.problems) == (200, 200, ())
    assert found.verdict_for(0.15) == PASS
    assert found.verdict_for(0.01) == FAIL
    undecided = found.judge(0.06)
    assert undecided.verdict == INCONCLUSIVE
    assert undecided.items_needed is not None
    assert f"about {undecided.items_needed} items would decide" in found.reasons_for(0.06)[0]
    assert "200 of 200 items" in found.reasons_for(0.15)[0]


def test_several_seeds_are_paired_with_one_clean_score(arm: Build) -> None:
    noisy = np.random.default_rng(0).binomial(1, 0.8, size=(200, 3))
    found = compare_levels(arm({0.0: rows(180, 200), 0.05: noisy.tolist()}), 0.05)
    assert found.difference == paired_mean(noisy.mean(axis=1) - rows(180, 200))


def test_another_level_can_be_the_reference(arm: Build) -> None:
    found = compare_levels(arm({0.0: rows(180, 200), 0.05: rows(170, 200), 0.1: rows(140, 200)}), 0.1, against=0.05)
    assert found.difference == tango(30, 0, 200)


def test_bad_evidence_is_invalid_whatever_the_limit(arm: Build, evidence: Callable[..., Certificate]) -> None:
    levels = {0.0: rows(180, 200), 0.05: rows(180, 200)}
    for problems in ({0.05: "ineffective"}, {0.0: "noise in the clean arm"}):
        found = compare_levels(arm(levels, evidence=evidence([0.0, 0.05], problems)), 0.05)
        assert found.verdict_for(0.9) == INVALID
        assert next(iter(problems.values())) in found.reasons_for(0.9)[0]
    external = compare_levels(arm(levels, evidence=Certificate(EXTERNAL)), 0.05)
    assert external.verdict_for(0.9) == INVALID
    assert "external, uncertified" in external.reasons_for(0.9)[0]


def test_floor_missing_levels_and_itself_are_invalid(arm: Build) -> None:
    low = compare_levels(arm({0.0: rows(20, 200), 0.05: rows(20, 200)}), 0.05)
    assert low.verdict_for(0.5) == INVALID
    assert "floor" in low.reasons_for(0.5)[0]
    assert compare_levels(arm({0.0: rows(20, 200), 0.05: rows(20, 200)}), 0.05, floor=0.01).verdict_for(0.5) == PASS
    risen = compare_levels(arm({0.0: rows(20, 200), 0.05: rows(150, 200)}), 0.05)
    assert risen.verdict_for(0.5) == INVALID
    assert compare_levels(arm({0.0: rows(180, 200), 0.05: rows(0, 200)}), 0.05).verdict_for(0.5) == FAIL
    absent = compare_levels(arm({0.0: rows(180, 200)}), 0.05)
    assert absent.difference is None
    assert absent.verdict_for(0.5) == INVALID
    assert any("no outcomes at level 0.05" in reason for reason in absent.reasons_for(0.5))
    assert compare_levels(arm({0.0: rows(180, 200)}), 0.0).verdict_for(0.5) == INVALID
    failed = compare_levels(arm({0.0: rows(180, 200), 0.05: ["error"] * 200}), 0.05)
    assert failed.verdict_for(0.5) == INVALID
    assert failed.difference is None


def test_unmeasured_items_are_worst_cased(arm: Build) -> None:
    gaps = ["error"] * 15 + rows(345, 385)
    found = compare_levels(arm({0.0: rows(360, 400), 0.05: gaps}), 0.05)
    assert found.n == 385
    assert found.verdict_for(0.03) == INVALID
    assert "15 of 400 items" in found.reasons_for(0.03)[0]
    assert found.verdict_for(0.10) == PASS


@pytest.mark.parametrize("limit", [5, -0.01, float("nan")])
def test_a_limit_out_of_range_is_refused(arm: Build, limit: float) -> None:
    found = compare_levels(arm({0.0: rows(180, 200), 0.05: rows(170, 200)}), 0.05)
    with pytest.raises(HarnessError, match="limit"):
        found.verdict_for(limit)
