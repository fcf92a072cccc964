"""The rules that come with the harness can be met: an unchanged checkpoint, drawn anew, usually PASSes.

The shipped baseline's 200 items and five noise seeds, no model. Both sides are drawn again: above level 0 every item
with its own chance, as far from the mean as leaves the discordance between two draws that the baseline has; at level 0
two greedy runs of which 5 % of the items differ.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.baselines.book import load_named
from harness.gates.forecast import ASSUMED_DISCORDANCE, POWER, forecast, joint_odds
from harness.gates.pairing import Cells
from harness.gates.policy import GatePolicy
from harness.gates.policy_file import load_policy
from harness.record import Arm
from harness.stats.paired_tests import MeanTest, PairedTest, TangoTest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
RULES = ROOT / "baselines" / "arith" / "arith-qwen2.toml"
DRAWS = 250


@pytest.fixture(scope="module")
def shipped() -> Arm:
    return load_named(ROOT / "baselines", "arith/arith-qwen2").arm


def scores(cells: Cells) -> NDArray[np.float64]:
    """Items by seeds."""
    return np.array([[row[seed].right for seed in sorted(row)] for row in cells.values()], dtype=np.float64)


def drawn_anew(seen: NDArray[np.float64], rng: np.random.Generator) -> PairedTest:
    """The gate's test of a candidate against a baseline, both drawn from the same chances as ``seen``."""
    n, seeds = seen.shape
    if seeds == 1:
        half = ASSUMED_DISCORDANCE / 2
        lost, gained, _ = rng.multinomial(n, [half, half, 1 - 2 * half])
        return TangoTest(int(lost), int(gained), n)
    means, within = seen.mean(axis=1), seen.var(axis=1, ddof=1).mean()
    middle = means.mean()
    shrunk = math.sqrt((middle - middle**2 - within) / means.var())
    chances = np.clip(middle + shrunk * (means - middle), 0, 1)[:, None]
    ours, theirs = (rng.random((n, seeds)) < chances for _ in range(2))
    return MeanTest(ours.mean(axis=1) - theirs.mean(axis=1))


def share_of_pass(arm: Arm, policy: GatePolicy) -> float:
    rng = np.random.default_rng(16)
    seen = {level: scores(cells) for level, cells in arm.outcomes.items()}
    passed = 0
    for _ in range(DRAWS):
        tests = {level: drawn_anew(rows, rng) for level, rows in seen.items()}
        passed += all(test.tails(-policy.margin_at(level)).above < policy.alpha for level, test in tests.items())
    return passed / DRAWS


@pytest.mark.parametrize("policy", [GatePolicy(), load_policy(RULES)], ids=["default", "make eval"])
def test_an_unchanged_checkpoint_has_good_odds(shipped: Arm, policy: GatePolicy) -> None:
    expected = joint_odds(forecast(shipped, policy)).passing
    assert expected >= POWER
    share = share_of_pass(shipped, policy)
    assert share >= POWER
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / DRAWS), "the forecast says what happens"


def test_the_margins_are_no_wider_than_that(shipped: Arm) -> None:
    """One point less at any level, or in the default, and the odds are too low, or that level's own are."""
    rules = load_policy(RULES)
    assert joint_odds(forecast(shipped, GatePolicy(margin=GatePolicy().margin - 0.01))).passing < POWER
    for level, margin in rules.margins:
        margins = tuple((at, value - 0.01 * (at == level)) for at, value in rules.margins)
        narrower = joint_odds(forecast(shipped, GatePolicy(margin=rules.margin, margins=margins))).passing
        assert narrower < POWER, f"level {level:g} could do with {margin - 0.01:g}"


def test_three_points_are_too_narrow_for_the_shipped_baseline(shipped: Arm) -> None:
    assert joint_odds(forecast(shipped, GatePolicy(margin=0.03))).passing < 0.25


def test_make_eval_gates_by_these_rules() -> None:
    assert f"--policy {RULES.relative_to(ROOT)}" in (ROOT / "Makefile").read_text()
