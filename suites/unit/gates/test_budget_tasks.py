"""One budget over several tasks: the split is the best by brute force, and more seconds never tell less."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from harness.exceptions import HarnessError
from harness.gates.budget import DIFFERENCE, RESERVE, Demand, Design, choose, plan_of, usable
from harness.gates.budget_tasks import choose_together, joint
from harness.gates.costs import Costs, Rate, Sweep, seconds

pytestmark = pytest.mark.unit

CHEAP = Costs(1.0, Rate(0.1, 0.01), Rate(0.1, 0.02), (0.1, 0.01), 0.2, 16)
DEAR = Costs(1.0, Rate(0.4, 0.1), Rate(0.5, 0.2), (0.5, 0.1), 1.0, 16)


def design(items: int = 40, seeds: int = 3, noisy: float = 0.3) -> Design:
    demands = (
        Demand(0.0, DIFFERENCE, 0.3, 0.05, repeated=False, own=False),
        Demand(0.1, DIFFERENCE, 0.3, noisy),
    )
    return Design(demands, Sweep(1), items, (1, seeds))


DESIGNS = {"a": design(), "b": design(30, 2, 0.1), "c": design(25, 2, 0.5)}
COSTS = {"a": CHEAP, "b": DEAR, "c": CHEAP}


def worst(plans: object) -> float:
    return max(each.effect / each.allowed for plan in plans.values() for each in plan.effects)  # type: ignore[attr-defined]


def by_force(left: float) -> float | None:
    """The smallest largest ratio over every combination of plans that fits."""
    tables = []
    for task, own in DESIGNS.items():
        rows = []
        for items in range(1, own.items + 1):
            if not own.reachable(np.array([items]))[0]:
                continue
            for count in range(1, own.seeds[1] + 1):
                plan = plan_of(own, COSTS[task], items, count)
                rows.append((plan.forecast, worst({task: plan})))
        # a plan that costs more and tells less is of no use to any combination
        tables.append([row for row in rows if not any(o[0] <= row[0] and o[1] < row[1] for o in rows)])
    sums = [(sum(c for c, _ in each), max(r for _, r in each)) for each in itertools.product(*tables)]
    return min((ratio for cost, ratio in sums if cost <= left), default=None)


@pytest.mark.parametrize("budget", [16.0, 20.0, 27.0, 40.0, 200.0])
def test_the_split_is_the_best_of_all(budget: float) -> None:
    best = by_force(usable(budget) - 2.0)
    if best is None:
        with pytest.raises(HarnessError, match="PASS is out of reach"):
            choose_together(DESIGNS, COSTS, 2.0, budget)
        return
    plans = choose_together(DESIGNS, COSTS, 2.0, budget)
    assert worst(plans) == pytest.approx(best)
    assert sum(plan.forecast for plan in plans.values()) + 2.0 <= (1 - RESERVE) * budget + 1e-6
    assert list(plans) == list(DESIGNS)


def test_more_seconds_never_tell_less() -> None:
    with pytest.raises(HarnessError, match="about") as caught:
        choose_together(DESIGNS, COSTS, 2.0, 5.0)
    least = float(str(caught.value).split("about ")[1].split()[0])
    found = [worst(choose_together(DESIGNS, COSTS, 2.0, budget)) for budget in np.linspace(least, 4 * least, 30)]
    assert found == sorted(found, reverse=True) and found[-1] < found[0]


def test_the_least_budget_does() -> None:
    with pytest.raises(HarnessError, match="about") as caught:
        choose_together(DESIGNS, COSTS, 2.0, 5.0)
    least = float(str(caught.value).split("about ")[1].split()[0])
    assert choose_together(DESIGNS, COSTS, 2.0, least + 0.01)
    with pytest.raises(HarnessError):
        choose_together(DESIGNS, COSTS, 2.0, least - 1.01)
    with pytest.raises(HarnessError, match="no number of seconds"):
        choose_together({**DESIGNS, "d": design(3)}, {**COSTS, "d": CHEAP}, 2.0, 1e6)


def test_one_task_alone_is_planned_as_without_others() -> None:
    for budget in (12.0, 20.0):
        alone = choose(design(), CHEAP, budget)
        assert choose_together({"a": design()}, {"a": CHEAP}, 0.0, budget) == {"a": alone}


def test_what_is_left_over_is_used() -> None:
    """The dear task has few items and is done early; the others take what it leaves."""
    plans = choose_together(DESIGNS, COSTS, 2.0, 300.0)
    assert all(plan.whole for plan in plans.values())
    least = sum(float(seconds(COSTS[t], d.sweep, np.array([d.items]), d.seeds[1])[0]) for t, d in DESIGNS.items())
    assert math.isclose(sum(plan.forecast for plan in plans.values()), least)


def test_the_odds_are_those_of_all_tasks() -> None:
    plans = choose_together(DESIGNS, COSTS, 2.0, 60.0)
    odds = joint(plans, DESIGNS)
    assert odds.passing == pytest.approx(math.prod(plan.odds.passing for plan in plans.values()))
    assert odds.passing + odds.inconclusive + odds.failing == pytest.approx(1.0)
    assert odds.failing <= sum(plan.odds.failing for plan in plans.values()), "alarms are adjusted over all levels"
