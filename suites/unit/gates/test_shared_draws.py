"""Noise seeds that all items share: their spread belongs into the interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.gates import FAIL, INCONCLUSIVE, PASS, GatePolicy, gate
from harness.gates.pairing import pair
from harness.gates.requirements import difference
from harness.record import CERTIFIED, Arm, Certificate, LevelCertificate, Outcome
from harness.stats import paired_mean, two_way_mean

pytestmark = pytest.mark.unit
RIGHT, WRONG = Outcome(1.0, "right"), Outcome(0.0, "wrong")
N, SEEDS = 400, 6
SHARED = "relative_gaussian @ op:linear key:shared"


def cells(scores):
    return {f"i{i:03}": {s: RIGHT if right else WRONG for s, right in enumerate(row)} for i, row in enumerate(scores)}


def arm(scores, noise):
    levels = {0.0: cells(np.ones((N, 1), dtype=bool)), 0.1: cells(scores)}
    entries = tuple(LevelCertificate(level, 1, 1, 1, 1, 1, level, level, 1) for level in levels)
    return Arm("arm", {"noise": noise}, levels, Certificate(CERTIFIED, entries))


@pytest.fixture
def scores():
    """Two sides whose seeds shift all items together, by much more than the items' own spread explains."""
    rng = np.random.default_rng(0)
    shifts = np.array([0.10, -0.10, 0.08, -0.08, 0.06, -0.06])
    base = rng.random((N, SEEDS)) < 0.7
    return rng.random((N, SEEDS)) < 0.7 + shifts, base


def test_the_interval_is_over_items_and_seeds(scores):
    ours, theirs = scores
    crossed, alone = (difference(pair(cells(ours), cells(theirs), shared), 0.05) for shared in (True, False))
    apart = ours.astype(float) - theirs.astype(float)
    assert crossed == two_way_mean(apart, 0.05)
    wanted = paired_mean(apart.mean(axis=1), 0.05)
    assert (alone.estimate, alone.low, alone.high) == pytest.approx((wanted.estimate, wanted.low, wanted.high))
    assert crossed.high - crossed.low > 2 * (alone.high - alone.low)


def test_the_gate_uses_it_and_says_so(scores):
    ours, theirs = scores
    policy = GatePolicy(margin=0.05, bootstrap_resamples=0)
    own = gate(arm(ours, "relative_gaussian @ op:linear"), arm(theirs, "relative_gaussian @ op:linear"), policy)
    shared = gate(arm(ours, SHARED), arm(theirs, SHARED), policy)
    assert (own.levels[1].verdict, shared.levels[1].verdict) == (PASS, INCONCLUSIVE)
    words = " ".join(shared.levels[1].reasons)
    assert "over items and these 6 noise seeds" in words and "more of them may be needed" in words


def test_few_seeds_stay_conditional(scores):
    ours, theirs = (side[:, :4] for side in scores)
    assert difference(pair(cells(ours), cells(theirs), True), 0.05) == difference(
        pair(cells(ours), cells(theirs)), 0.05
    )
    result = gate(arm(ours, SHARED), arm(theirs, SHARED), GatePolicy(bootstrap_resamples=0))
    assert "conditional on these 4 noise seeds, so it decides nothing (5 would show" in " ".join(
        result.levels[1].reasons
    )


@pytest.mark.parametrize("noise", [SHARED, "nondeterministic @ op:linear"])
@pytest.mark.parametrize("lost", [0, 390])
def test_few_shared_seeds_decide_nothing_and_say_how_many_would(noise, lost):
    """Neither the PASS of equal arms nor the FAIL of a lost one: other seeds may show anything."""
    theirs = np.ones((N, 4), dtype=bool)
    ours = theirs.copy()
    ours[:lost] = False
    level = gate(arm(ours, noise), arm(theirs, noise), GatePolicy(bootstrap_resamples=0)).levels[1]
    assert level.verdict == INCONCLUSIVE
    assert "4 such seeds decide nothing: 5 noise seeds are needed" in " ".join(level.reasons)
    ours, theirs = (np.repeat(side[:, :1], 5, axis=1) for side in (ours, theirs))
    enough = gate(arm(ours, noise), arm(theirs, noise), GatePolicy(bootstrap_resamples=0)).levels[1]
    assert enough.verdict == (FAIL if lost else PASS)


def test_an_engine_that_does_not_repeat_itself_decides_nothing_by_one_draw():
    class Wavering(Certificate):
        nondeterministic = "2 of 8 answers differ"

    def wavering(own: Arm) -> Arm:
        return replace(own, certificate=Wavering(CERTIFIED, own.certificate.levels))

    same = arm(np.ones((N, 6), dtype=bool), "relative_gaussian @ op:linear")
    found = gate(wavering(same), same, GatePolicy(bootstrap_resamples=0))
    assert [level.verdict for level in found.levels] == [INCONCLUSIVE, INCONCLUSIVE]  # the second by the fixed sequence
    assert "1 such seed decides nothing: 5 noise seeds are needed" in " ".join(found.levels[0].reasons)
