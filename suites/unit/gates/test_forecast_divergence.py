"""What a gate on distributions can tell beforehand: the odds said are those that the gate has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.calibration.distributions import CHANGE, DistributionCase, Pool, side
from harness.gates.forecast import forecast
from harness.gates.forecast_divergence import both_odds, both_sentence, forecast_divergences
from harness.gates.policy import GatePolicy
from harness.stats.skewed import SkewedMean
from harness.testing.arms import make_arm

pytestmark = pytest.mark.unit

POOL = Pool.of(DistributionCase("", 64, CHANGE))
LEVELS = (0.0, 0.05)
POLICY = GatePolicy(kl_margin=0.01)


def reference(n):
    return side("old", {level: [own for _, own in POOL.pairs[:n]] for level in LEVELS})


def test_true_means_that_are_named_have_the_odds_that_are_said():
    level = forecast_divergences(reference(64), POLICY, LEVELS)[1]
    assert (level.unchanged, level.items, level.tokens, level.margin) == ("PASS", 64, 256, 0.01)
    rng = np.random.default_rng(3)
    means = [SkewedMean.of(rng.exponential(size=64)) for _ in range(400)]
    passing = np.mean([mean.interval(0.05).high * level.passes_to < 0.01 for mean in means])
    failing = np.mean([mean.interval(0.05 / 4).low * level.fails_from > 0.01 for mean in means])
    assert passing == pytest.approx(0.8, abs=0.07) and failing == pytest.approx(0.8, abs=0.07)


def test_a_reference_that_cannot_pass_leaves_no_odds_of_it():
    answers = forecast(make_arm({level: [1] * 300 for level in LEVELS}), replace(POLICY, margin=0.3))
    good, few = (forecast_divergences(reference(n), POLICY, LEVELS) for n in (64, 58))
    assert few[0].unchanged == "INCONCLUSIVE" and few[0].passes_to is None
    assert both_odds(answers, good).passing > 0.9 and both_odds(answers, few).passing == 0
    assert "answers at 2 levels and distributions at 2, if nothing changed: PASS 0.00" in both_sentence(answers, few)
