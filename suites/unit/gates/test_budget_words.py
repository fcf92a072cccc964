"""What is said of a plan: what it costs, what it tells, and where that is little."""

from __future__ import annotations

import pytest

from harness.gates.budget import DIFFERENCE, RETENTION, BudgetPlan, Effect
from harness.gates.budget_words import plan_line, together_lines, warning
from harness.gates.costs import Costs, Rate
from harness.stats.odds import VerdictOdds

pytestmark = pytest.mark.unit

COSTS = Costs(6.25, Rate(0.1, 0.02), Rate(0.1, 0.0251), (0.1, 0.02), 0.5, 64)


def plan(passing: float, items: int = 40) -> BudgetPlan:
    effects = Effect(0.0, DIFFERENCE, 0.0712, 0.06), Effect(0.1, RETENTION, 0.052, 0.1)
    return BudgetPlan(items, 200, 5, 5, 41.6, effects, VerdictOdds(passing, 1 - passing, 0.0))


def test_a_plan_says_what_it_costs_and_what_it_tells() -> None:
    said = plan_line(plan(0.9), COSTS, 60.0, "what is known")
    assert said.startswith("budget 60 s: 40 of 200 items and 5 of at most 5 noise seeds; forecast 42 s, timed on this")
    assert "6.2 s for start-up and timing, 20 or 25.1 ms for a clean or noisy record in batches of 64" in said
    assert "7.1 points at 0 % (allowed 6.0), 5.2 points of retention at 10 % (allowed 10.0)" in said
    assert said.endswith("by what is known); if nothing changed: PASS 0.90, INCONCLUSIVE 0.10, FAIL 0.00")
    assert "noise seeds, which is everything; forecast" in plan_line(plan(0.9, 200), COSTS, 60.0, "")


def test_a_plan_that_decides_little_is_warned_of() -> None:
    assert warning(plan(0.5), None) is None
    worry = warning(plan(0.2), 73.2)
    assert worry is not None and "INCONCLUSIVE with probability 0.80; about 74 seconds would PASS" in worry
    hopeless = warning(plan(0.2), None)
    assert hopeless is not None and "even all items and seeds would not" in hopeless


def test_tasks_together_have_the_odds_of_the_whole_gate() -> None:
    (line,) = together_lines(2, 57.6, VerdictOdds(0.7, 0.29, 0.01))
    assert line.startswith("all 2 tasks: forecast 58 s; the whole gate, if nothing changed: PASS 0.70")
    assert "INCONCLUSIVE with probability 0.80" in together_lines(2, 57.6, VerdictOdds(0.2, 0.8, 0.0))[1]
