"""Retention where all items share the draws of a noise seed: the spread of the seeds belongs into it."""

from __future__ import annotations

import numpy as np
import pytest

from harness.gates import FAIL, INCONCLUSIVE, INVALID, PASS, GatePolicy, gate
from harness.gates.pairing import Pairs, pair
from harness.gates.requirements import retention, retention_requirement
from harness.record import CERTIFIED, RIGHT, WRONG, Arm, Certificate, LevelCertificate, Outcome
from harness.stats import mean_ratio, two_way_mean, two_way_ratio

pytestmark = pytest.mark.unit
N, SEEDS = 400, 6
SHARED = "relative_gaussian @ op:linear key:shared"
OWN = "relative_gaussian @ op:linear"


def cells(scores):
    return {
        f"i{i:03}": {s: Outcome(float(right), RIGHT if right else WRONG) for s, right in enumerate(row)}
        for i, row in enumerate(scores)
    }


def arm(noisy, clean, noise=SHARED):
    levels = {0.0: cells(clean[:, None]), 0.1: cells(noisy)}
    entries = tuple(LevelCertificate(level, 1, 1, 1, 1, 1, level, level, 1) for level in levels)
    return Arm("arm", {"noise": noise}, levels, Certificate(CERTIFIED, entries))


@pytest.fixture
def scores():
    """(noisy, clean): seeds shift all items together, by much more than the items' own spread explains."""
    rng = np.random.default_rng(0)
    clean = rng.random(N) < 0.9
    shifts = np.array([0.10, -0.10, 0.08, -0.08, 0.06, -0.06])
    return rng.random((N, SEEDS)) < np.where(clean, 0.85, 0.2)[:, None] + shifts, clean


def pairs_of(scores, shared: bool = True, seeds: int = SEEDS) -> Pairs:
    noisy, clean = scores
    return pair(cells(noisy[:, :seeds]), cells(clean[:, None]), shared)


def test_the_interval_is_over_items_and_seeds(scores):
    noisy, clean = (side.astype(float) for side in scores)
    found, items = retention(pairs_of(scores), 0.05, 0.1), retention(pairs_of(scores, shared=False), 0.05, 0.1)
    expected, alone = two_way_ratio(noisy, clean), mean_ratio(noisy.mean(axis=1), clean)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (items.low, items.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    assert found.high - found.low > 2 * (items.high - items.low)
    few = retention(pairs_of(scores, seeds=4), 0.05, 0.1)
    four = mean_ratio(noisy[:, :4].mean(axis=1), clean)
    assert (few.low, few.high) == pytest.approx((four.low, four.high), abs=1e-12)


def test_clean_draws_are_no_noise_seeds(scores):
    """Six outcomes per item without noise say nothing about the spread of three seeds."""
    noisy, clean = scores
    pairs = pair(cells(noisy[:, :3]), cells(np.repeat(clean[:, None], 6, axis=1)), True)
    alone = mean_ratio(noisy[:, :3].mean(axis=1), clean.astype(float))
    assert retention(pairs, 0.05, 0.1).low == pytest.approx(alone.low, abs=1e-12)
    part = retention_requirement(pairs, 0.5, 0.05, 0.1)
    assert part.verdict == INCONCLUSIVE and "3 such seeds decide nothing" in part.reason


@pytest.mark.parametrize("minimum", np.linspace(0.7, 1.0, 13))
def test_the_cells_decide_as_the_interval_says(scores, minimum):
    noisy, clean = (side.astype(float) for side in scores)
    pairs = pairs_of(scores)
    part, shown = retention_requirement(pairs, minimum, 0.05, 0.1), retention(pairs, 0.05, 0.1)
    test = two_way_mean(noisy - minimum * clean[:, None])
    assert part.verdict == (PASS if test.low >= 0 else FAIL if test.high < 0 else INCONCLUSIVE)
    assert part.verdict == (PASS if shown.low >= minimum else FAIL if shown.high < minimum else INCONCLUSIVE)
    assert (part.p_pass <= 0.05, part.p_fail <= 0.05) == (part.verdict == PASS, part.verdict == FAIL)
    assert part.needed is None
    assert ("more of them may be needed" in part.reason) == (part.verdict == INCONCLUSIVE)


def test_the_gate_uses_it_and_says_so(scores):
    noisy, clean = scores
    policy = GatePolicy(0.03, min_retention=0.84, bootstrap_resamples=0)
    own, shared = (
        gate(arm(noisy, clean, noise), arm(noisy, clean, noise), policy).levels[1] for noise in (OWN, SHARED)
    )
    assert (own.verdict, shared.verdict) == (PASS, INCONCLUSIVE)
    assert shared.retention == retention(pairs_of(scores), 0.05, 0.1)
    words = " ".join(shared.reasons)
    assert "the retention is" in words and "over items and these 6 noise seeds" in words
    few = gate(arm(noisy[:, :4], clean), arm(noisy[:, :4], clean), policy).levels[1]
    assert "conditional on these 4 noise seeds" in " ".join(few.reasons)


def test_without_anything_to_keep_it_is_undefined(scores):
    noisy, clean = scores
    nothing = pairs_of((noisy, np.zeros_like(clean)))
    assert retention(nothing, 0.05, 0.1) is None
    part = retention_requirement(nothing, 0.9, 0.05, 0.1)
    assert (part.verdict, part.p_pass, part.p_fail) == (INVALID, 1.0, 1.0)
