"""Families of levels at a drop equal to the margin: how often any level, and which share of levels, wrongly PASSes."""

from __future__ import annotations

import numpy as np
import pytest

from harness.calibration.coverage import simulated
from harness.gates import FAIL, PASS
from harness.gates.families import judge_levels
from harness.gates.policy import BENJAMINI_HOCHBERG, HOLM
from harness.gates.requirements import Requirement
from harness.stats import Interval, tango_tails
from harness.stats.bootstrap import private_generator
from harness.stats.odds import shares

MARGIN, ALPHA = 0.03, 0.05
BAD, GOOD = 4, 3
"""Levels whose drop is the margin, and levels that lost nothing."""


def verdicts(repetitions: int, n: int) -> dict[str, list[list[str]]]:
    """Of each family: per repetition the verdicts of the bad levels, then of the good ones; levels are independent."""
    rng = private_generator(0, f"families {n}")
    drops = [MARGIN] * BAD + [0.0] * GOOD
    found: dict[str, list[list[str]]] = {"alone": [], HOLM: [], BENJAMINI_HOCHBERG: []}
    for _ in range(repetitions):
        levels = {}
        for level, drop in enumerate(drops):
            lost, gained = rng.multinomial(n, [*shares(0.1, drop), 0.9])[:2]
            tails = tango_tails(lost, gained, n, -MARGIN)
            levels[float(level)] = (Requirement("", "", p_pass=tails.above, p_fail=tails.below),)
        found["alone"].append([verdict for _, verdict in sorted(_alone(levels).items())])
        for family in (HOLM, BENJAMINI_HOCHBERG):
            judged = judge_levels(family, levels, ALPHA)
            found[family].append([judged[level][0] for level in sorted(levels)])
    return found


def _alone(levels: dict[float, tuple[Requirement, ...]]) -> dict[float, str]:
    return {
        level: PASS if part.p_pass <= ALPHA else FAIL if part.p_fail <= ALPHA else ""
        for level, (part,) in levels.items()
    }


def check(repetitions: int, n: int, slack: float) -> None:
    found = verdicts(repetitions, n)

    def any_of(family: str, verdict: str) -> Interval:
        return simulated(sum(verdict in row[:BAD] for row in found[family]), repetitions)

    def discovery_rate(family: str) -> float:
        rates = [row[:BAD].count(PASS) / max(1, row.count(PASS)) for row in found[family]]
        return float(np.mean(rates))

    assert any_of(HOLM, PASS).estimate <= ALPHA + slack
    assert any_of("alone", PASS).low > 1.7 * ALPHA  # what the family is for
    for family in (HOLM, BENJAMINI_HOCHBERG):  # alarms are Holm's in both
        assert any_of(family, FAIL).estimate <= ALPHA + slack
    assert any_of("alone", FAIL).low > 1.7 * ALPHA
    assert discovery_rate(BENJAMINI_HOCHBERG) <= ALPHA + slack
    assert any_of(BENJAMINI_HOCHBERG, PASS).low > ALPHA  # it holds a rate of discoveries, not the chance of any
    good = {family: sum(row[BAD:].count(PASS) for row in rows) for family, rows in found.items()}
    assert good[HOLM] < good[BENJAMINI_HOCHBERG] < good["alone"]


@pytest.mark.contract
def test_holm_and_benjamini_hochberg_hold_what_they_say() -> None:
    check(600, 1319, slack=0.02)


@pytest.mark.thorough
def test_thorough_families() -> None:
    check(10_000, 1319, slack=0.005)
