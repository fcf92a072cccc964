"""One budget for several tasks that are judged together: split so that the whole gate can tell the smallest effect.

Every level of every task must PASS, so that the task that can tell least limits the whole. For each task the cheapest
plan of every size of effect is known; the smallest effect that all tasks together can afford is found exactly. What is
left over goes to the tasks in turn, the one that tells least first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.gates.budget import (
    RESERVE,
    BudgetPlan,
    Design,
    best_within,
    plan_of,
    too_small,
    usable,
)
from harness.gates.costs import Costs, seconds
from harness.stats.odds import VerdictOdds


@dataclass(frozen=True)
class _Point:
    """A plan of one task: nothing cheaper tells as much. ``ratio`` is its largest effect / allowed."""

    cost: float
    ratio: float


def choose_together(
    designs: Mapping[str, Design], costs: Mapping[str, Costs], spent: float, budget: float
) -> dict[str, BudgetPlan]:
    """Return task -> its plan, all together within ``budget`` (seconds), of which ``spent`` are gone already.

    ``costs`` are those of each task alone. A larger budget never gives a plan in which the task that tells least tells
    less. Raises :class:`harness.exceptions.HarnessError` as :func:`harness.gates.budget.choose` does.
    """
    left = usable(budget) - spent
    fronts = {task: _frontier(design, costs[task]) for task, design in designs.items()}
    if any(not front for front in fronts.values()):
        raise too_small(budget, None)
    least = sum(front[0].cost for front in fronts.values())
    if least > left:
        raise too_small(budget, (spent + least) / (1 - RESERVE))
    taken = _smallest(fronts, left)
    spare = left - sum(point.cost for point in taken.values())
    plans: dict[str, BudgetPlan] = {}
    for task in sorted(taken, key=lambda task: (-taken[task].ratio, task)):
        # rounding must not take away the plan that is affordable already
        most = taken[task].cost * (1 + 1e-12) + max(0.0, spare)
        items, seeds = best_within(designs[task], costs[task], most) or (0, 0)
        plans[task] = plan_of(designs[task], costs[task], items, seeds)
        spare -= plans[task].forecast - taken[task].cost
    return {task: plans[task] for task in designs}


def joint(plans: Mapping[str, BudgetPlan], designs: Mapping[str, Design]) -> VerdictOdds:
    """Return the odds of the whole gate if nothing changed: all levels of all tasks must PASS, and alarms are adjusted
    over them; taken as independent."""
    family = sum(len(design.differences) for design in designs.values())
    passing, quiet = 1.0, 1.0
    for task, plan in plans.items():
        own = designs[task].odds(plan.items, plan.noise_seeds, family)
        passing, quiet = passing * own.passing, quiet * (1 - own.failing)
    return VerdictOdds(passing, max(0.0, quiet - passing), 1 - quiet)


def _frontier(design: Design, costs: Costs) -> list[_Point]:
    """Plans in the order of their cost, each telling more than every cheaper one; empty where there is none."""
    items = np.arange(1, design.items + 1)
    items = items[design.reachable(items)]
    allowed = np.array([demand.allowed for demand in design.demands])[:, None]
    found: list[tuple[float, float]] = []
    for count in range(design.seeds[0], design.seeds[1] + 1) if len(items) else ():
        ratios = (design.effects(items, count) / allowed).max(axis=0)
        found += zip(seconds(costs, design.sweep, items, count).tolist(), ratios.tolist(), strict=True)
    front: list[_Point] = []
    for cost, ratio in sorted(found):
        if not front or ratio < front[-1].ratio:
            front.append(_Point(cost, ratio))
    return front


def _smallest(fronts: Mapping[str, Sequence[_Point]], left: float) -> dict[str, _Point]:
    """The cheapest plans that reach the smallest largest ratio within ``left`` seconds."""
    ratios = sorted({point.ratio for front in fronts.values() for point in front})

    def reaching(ratio: float) -> dict[str, _Point] | None:
        found = {task: next((p for p in front if p.ratio <= ratio), None) for task, front in fronts.items()}
        there = {task: point for task, point in found.items() if point is not None}
        if len(there) < len(found) or sum(point.cost for point in there.values()) > left:
            return None
        return there

    below, enough = -1, len(ratios) - 1
    while enough - below > 1:
        middle = (below + enough) // 2
        below, enough = (below, middle) if reaching(ratios[middle]) is not None else (middle, enough)
    best = reaching(ratios[enough])
    assert best is not None  # the cheapest plans of all tasks fit
    return best
