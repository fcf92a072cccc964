"""Plans within a number of seconds: the best by brute force, more for a larger budget, nothing below a verdict."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from harness.exceptions import HarnessError
from harness.gates.budget import (
    DIFFERENCE,
    RESERVE,
    RETENTION,
    Demand,
    Design,
    choose,
    enough_seconds,
    least_seconds,
    plan_of,
    usable,
)
from harness.gates.budget_design import ASSUMED_NOISY, assumed_design, design_of
from harness.gates.costs import Costs, Rate, Sweep, control_seconds, seconds
from harness.gates.forecast import forecast, joint_odds
from harness.gates.policy import GatePolicy
from harness.record import CERTIFIED, Arm, Certificate, LevelCertificate, Outcome
from harness.runs.item_order import choice_order
from harness.runs.replayed import quota
from harness.spec import EvalSpec, parse_noise
from harness.stats.power import minimum_detectable_effect
from harness.stats.quantiles import zero_discordance

pytestmark = pytest.mark.unit
RIGHT, WRONG = Outcome(1.0, "right"), Outcome(0.0, "wrong")
COSTS = Costs(6.0, Rate(0.15, 0.02, 0.015), Rate(0.2, 0.03, 0.02), (0.5, 0.025), 0.7, 16)
LEVELS = (0.0, 0.05, 0.1)


def demand(level: float, within: float, allowed: float = 0.1, **other: object) -> Demand:
    return Demand(level, DIFFERENCE, allowed, within, repeated=bool(level), **other)  # type: ignore[arg-type]


def design(items: int = 90, seeds: tuple[int, int] = (1, 6), **other: object) -> Design:
    demands = demand(0.0, 0.05, own=False), demand(0.05, 0.12), demand(0.1, 0.4)
    return Design(demands, Sweep(2), items, seeds, **other)  # type: ignore[arg-type]


def clustered(items: int = 80) -> Design:
    rng = np.random.default_rng(5)
    names = tuple(f"c{number}" for number in rng.integers(0, 25, items))
    demands = tuple(dataclasses.replace(each, correlation=0.3, allowed=0.4) for each in design().demands)
    return Design(demands, Sweep(2), items, (1, 5), names)


def by_force(plan: Design, costs: Costs, budget: float) -> tuple[tuple[float, ...], int, int, float] | None:
    """The best plan, looked for among all there are with the formulas of the forecast, one by one."""
    found = []
    for seeds in range(plan.seeds[0], plan.seeds[1] + 1):
        for items in range(1, plan.items + 1):
            taken = slowly(costs, plan.sweep, items, seeds)
            sizes = [plan.clusters[:items].count(name) for name in set(plan.clusters[:items])] or [1] * items
            units = math.floor(items**2 / sum(size**2 for size in sizes) + 1e-9)
            narrowest = min(each.allowed for each in plan.demands if each.what == DIFFERENCE)
            if taken > usable(budget) or units < 2 or items < plan.least_items:
                continue
            if zero_discordance(units, plan.alpha) >= narrowest:
                continue
            ratios = []
            for each in plan.demands:
                effect = 1 + (sum(size**2 for size in sizes) / items - 1) * max(0.0, each.correlation)
                variance = each.between + each.within / (seeds if each.repeated else 1)
                sd = math.sqrt(variance * effect * units / items) / each.scale
                ratios.append(minimum_detectable_effect(sd, units, plan.alpha) / each.allowed)
            found.append((tuple(sorted(ratios, reverse=True)), -seeds, -items, taken))
    return min(found, default=None)


def slowly(costs: Costs, sweep: Sweep, items: int, seeds: int) -> float:
    """The forecast, batch by batch."""
    total = costs.spent + costs.replay[0] + (costs.control if sweep.control else 0.0)
    clean = seeds if sweep.sampled else 1
    total += costs.clean.batch + min(8, items * clean) * costs.clean.record
    for rate, levels, draws in ((costs.clean, 1, clean), (costs.noisy, sweep.noisy, seeds)):
        for _ in range(levels):
            total += quota(items * draws) * costs.replay[1]
            blocks = [items]
            if sweep.block:
                blocks = [sweep.block] * (items // sweep.block) + [items % sweep.block]
            for block in blocks:
                left, audited = block * draws, 0
                while left > 0:
                    size = min(left, costs.batch_size)
                    total += rate.batch + size * rate.record + (size * rate.audit if audited < 3 else 0.0)
                    left, audited = left - size, audited + 1
    return total


@pytest.mark.parametrize("budget", [12.0, 20.0, 31.0, 47.0, 80.0, 400.0])
@pytest.mark.parametrize("plan", [design(), clustered(), design(items=50, seeds=(2, 4)), design(seeds=(5, 5))])
def test_the_plan_is_the_best_of_all_there_are(plan: Design, budget: float) -> None:
    best = by_force(plan, COSTS, budget)
    if best is None:
        with pytest.raises(HarnessError, match="no verdict"):
            choose(plan, COSTS, budget)
        return
    found = choose(plan, COSTS, budget)
    assert (found.noise_seeds, found.items) == (-best[1], -best[2])
    assert found.forecast == pytest.approx(best[3])
    assert max(each.effect / each.allowed for each in found.effects) == pytest.approx(best[0][0])
    assert found.forecast <= (1 - RESERVE) * budget


@pytest.mark.parametrize("plan", [design(300, (1, 9)), clustered(200), design(items=150, seeds=(3, 5))])
def test_a_larger_budget_never_tells_less(plan: Design) -> None:
    least = least_seconds(plan, COSTS)
    assert least is not None
    worst = []
    for factor in np.linspace(1.0, 8.0, 40):
        found = choose(plan, COSTS, least * factor + 1e-9)
        worst.append(max(each.effect / each.allowed for each in found.effects))
    assert worst == sorted(worst, reverse=True) and worst[-1] < worst[0]


def test_where_seeds_agree_more_of_them_are_taken_all_the_same() -> None:
    """A baseline without any discordance says nothing against more evidence."""
    agreeing = Design((demand(0.05, 0.0),), Sweep(1), 60, (1, 4))
    found = choose(agreeing, COSTS, 1000.0)
    assert found.whole and found.noise_seeds == 4


def test_the_same_costs_give_the_same_plan() -> None:
    assert choose(design(), COSTS, 40.0) == choose(design(), COSTS, 40.0)


def test_the_least_budget_is_one_that_does_and_nothing_less() -> None:
    for plan in (design(), clustered(), design(seeds=(4, 6))):
        least = least_seconds(plan, COSTS)
        assert least is not None
        assert choose(plan, COSTS, least + 1e-9).noise_seeds == plan.seeds[0]
        with pytest.raises(HarnessError, match=f"about {math.ceil(least)} seconds are the least that would do"):
            choose(plan, COSTS, least - 1e-6)


def test_where_nothing_is_enough_that_is_said() -> None:
    plan = design(items=20)  # 20 items leave 12 points open, and the margin is 10
    assert least_seconds(plan, COSTS) is None
    with pytest.raises(HarnessError, match="no number of seconds would do; widen the margin"):
        choose(plan, COSTS, 1e6)


def test_the_level_that_limits_the_gate_gets_the_seconds() -> None:
    """The wrong level would be the clean one: with one seed it has the most items."""
    found = choose(design(2000, (1, 20)), COSTS, 120.0)
    assert 2 <= found.noise_seeds < 20
    one = dataclasses.replace(design(2000, (1, 1)))
    assert choose(one, COSTS, 120.0).items > found.items
    noisy = [each.effect for each in found.effects if each.level == 0.1]
    alone = [each.effect for each in choose(one, COSTS, 120.0).effects if each.level == 0.1]
    assert noisy < alone
    demands = demand(0.0, 0.05, 0.02, own=False), demand(0.05, 0.12, 0.2), demand(0.1, 0.4, 0.2)
    clean = dataclasses.replace(design(2000, (1, 20)), demands=demands)
    assert choose(clean, COSTS, 120.0).noise_seeds == 1, "a narrow margin at level 0 makes that the one that limits"


def test_fewer_seeds_than_the_policy_asks_for_are_never_planned() -> None:
    for budget in (25.0, 40.0, 100.0):
        assert choose(design(seeds=(4, 6)), COSTS, budget).noise_seeds >= 4


def test_the_floor_needs_its_items() -> None:
    plan = design(least_items=60, seeds=(1, 3))
    assert choose(plan, COSTS, 25.0).items >= 60


@pytest.mark.parametrize("sweep", [Sweep(2), Sweep(1, sampled=True), Sweep(3, control=False), Sweep(2, block=32)])
@pytest.mark.parametrize("count", [1, 7, 31, 32, 33, 100])
def test_seconds_are_those_of_the_batches(sweep: Sweep, count: int) -> None:
    for seeds in (1, 3, 5):
        found = seconds(COSTS, sweep, np.array([count]), seeds)
        assert found[0] == pytest.approx(slowly(COSTS, sweep, count, seeds))


def test_seconds_grow_with_items_and_seeds() -> None:
    items = np.arange(1, 300)
    for sweep in (Sweep(2), Sweep(2, block=32), Sweep(1, sampled=True)):
        columns = [seconds(COSTS, sweep, items, seeds) for seeds in range(1, 6)]
        assert all((np.diff(column) > 0).all() for column in columns)
        assert all((after > before).all() for before, after in itertools.pairwise(columns))


def test_a_destroyed_answer_is_as_long_as_it_may_be() -> None:
    assert control_seconds(Rate(0.2, 0.05), 24, 96) == pytest.approx(4 * (0.2 + 16 * 0.05))
    assert control_seconds(Rate(0.2, 0.05), 1, 1) == pytest.approx(0.2 + 16 * 0.05)


def arm(items: int = 120, seeds: int = 4, clusters: dict[str, str] | None = None, noise: str = "") -> Arm:
    rng = np.random.default_rng(7)
    chances = {0.0: np.full(items, 1.0), 0.05: rng.beta(8, 1, items), 0.1: rng.beta(2, 1, items)}
    outcomes = {
        level: {
            f"i{item:03}": {seed: RIGHT if rng.random() < chance else WRONG for seed in range(seeds if level else 1)}
            for item, chance in enumerate(own)
        }
        for level, own in chances.items()
    }
    levels = tuple(LevelCertificate(level, 1, 1, 1, 1, 1, level, level, 1) for level in LEVELS)
    key = {"task": "t", "noise": noise or "relative_gaussian @ op:linear"}
    return Arm("arm", key, outcomes, Certificate(CERTIFIED, levels), clusters=clusters or {})


SPEC = EvalSpec("arith", items=120, noise_seeds=4)


@pytest.mark.parametrize("clusters", [None, {f"i{item:03}": f"c{item // 4}" for item in range(120)}])
def test_the_whole_baseline_tells_what_the_forecast_says(clusters: dict[str, str] | None) -> None:
    baseline, policy = arm(clusters=clusters), GatePolicy(margins=((0.1, 0.08),))
    plan = plan_of(design_of(baseline, SPEC, policy), COSTS, 120, 4)
    foreseen = forecast(baseline, policy)
    assert [each.effect for each in plan.effects] == pytest.approx([level.effect for level in foreseen])
    assert [each.allowed for each in plan.effects] == [level.margin for level in foreseen]
    odds = joint_odds(foreseen)
    assert (plan.odds.passing, plan.odds.failing) == pytest.approx((odds.passing, odds.failing), abs=1e-9)
    assert plan.whole


def test_what_is_planned_does_not_hang_on_which_items_come_first() -> None:
    """The baseline's variance is that of all its items, so that no lucky beginning makes a small plan look good."""
    baseline = arm()
    order = choice_order([f"i{item:03}" for item in range(120)], SPEC.item_seed)
    easy = {
        level: {item: dict.fromkeys(row, RIGHT) if item in order[:50] else row for item, row in cells.items()}
        for level, cells in baseline.outcomes.items()
    }
    lucky = dataclasses.replace(baseline, outcomes=easy)
    found = design_of(lucky, SPEC, GatePolicy())
    within = {each.level: each.within for each in found.demands}
    whole = {level.level: level.discordance for level in forecast(lucky, GatePolicy())}
    assert within == pytest.approx(whole)


def test_clusters_are_named_in_the_order_of_the_items() -> None:
    clusters = {f"i{item:03}": f"c{item // 4}" for item in range(120)}
    found = design_of(arm(clusters=clusters), SPEC, GatePolicy())
    order = choice_order(clusters, SPEC.item_seed)
    assert found.clusters == tuple(clusters[item] for item in order)
    alone = design_of(arm(clusters={item: f"only {item}" for item in clusters}), SPEC, GatePolicy())
    assert alone.clusters == ()


def test_a_least_retention_is_planned_for_as_well() -> None:
    baseline = arm()
    plain = design_of(baseline, SPEC, GatePolicy())
    found = design_of(baseline, SPEC, GatePolicy(retentions=((0.1, 0.6),)))
    (own,) = (each for each in found.demands if each.what == RETENTION)
    right = np.mean([o.right for row in baseline.outcomes[0.1].values() for o in row.values()])
    assert own.allowed == pytest.approx(right - 0.6) and own.between > 0 and own.level == 0.1
    assert len(found.demands) == len(plain.demands) + 1
    narrow = design_of(baseline, SPEC, GatePolicy(retentions=((0.1, float(right) - 0.02),)))
    assert choose(narrow, COSTS, 60.0).noise_seeds >= choose(plain, COSTS, 60.0).noise_seeds
    hopeless = design_of(baseline, SPEC, GatePolicy(retentions=((0.1, 0.99),)))
    assert all(each.what == DIFFERENCE for each in hopeless.demands), "no plan could help: it is said otherwise"


def test_the_floor_of_the_baseline_sets_the_least_items() -> None:
    baseline = arm()
    low = {item: {0: RIGHT if number % 5 == 0 else WRONG} for number, item in enumerate(baseline.outcomes[0.0])}
    found = design_of(dataclasses.replace(baseline, outcomes={**baseline.outcomes, 0.0: low}), SPEC, GatePolicy())
    assert 20 < found.least_items < 60
    assert design_of(baseline, SPEC, GatePolicy()).least_items == 2


def test_draws_that_all_items_share_are_refused() -> None:
    noise = "relative_gaussian @ op:linear key:shared"
    with pytest.raises(HarnessError, match="share the draws"):
        design_of(arm(noise=noise), SPEC, GatePolicy())
    with pytest.raises(HarnessError, match="share the draws"):
        assumed_design(dataclasses.replace(SPEC, noise=parse_noise(noise)), ["a"], {}, GatePolicy())


def test_without_a_baseline_the_discordances_are_assumed_and_said() -> None:
    found = assumed_design(SPEC, [f"i{item}" for item in range(500)], {}, GatePolicy(noise_seeds=2))
    assert [each.within for each in found.demands] == [0.05, ASSUMED_NOISY, ASSUMED_NOISY]
    assert found.seeds[0] == 2 and "assumed" in found.said
    assert 2 <= choose(found, COSTS, 60.0).noise_seeds < 8
    sampled = assumed_design(dataclasses.replace(SPEC, temperature=0.7), ["a", "b"], {}, GatePolicy())
    assert sampled.sweep.sampled and all(each.repeated for each in sampled.demands)


def test_the_budget_that_would_pass_is_one_that_does() -> None:
    plan = design(400, (1, 8))
    enough = enough_seconds(plan, COSTS)
    assert enough is not None
    assert choose(plan, COSTS, enough).odds.passing >= 0.8 > choose(plan, COSTS, enough / 1.2).odds.passing
    assert enough_seconds(design(30, (1, 2)), COSTS) is None
