"""What is known before a gate is planned: from its baseline's own outcomes, or assumed where there is no baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.exceptions import HarnessError
from harness.gates.budget import DIFFERENCE, RETENTION, Demand, Design
from harness.gates.costs import Sweep
from harness.gates.early import BLOCK
from harness.gates.evidence import engine_varies, floor_of, keyed_shared
from harness.gates.forecast import ASSUMED_DISCORDANCE, complete_scores, correlation_of
from harness.gates.pairing import Floats, seeds_of
from harness.gates.policy import GatePolicy
from harness.record import Arm
from harness.runs.item_order import choice_order
from harness.spec import EvalSpec
from harness.spec.sampling import is_sampled
from harness.stats import wilson

ASSUMED_NOISY = 0.2
"""Share of pairs of draws under noise that disagree (fraction), where no baseline says better: 0.04 to 0.39 were seen
at 5 and 10 % noise on the shipped checkpoints."""

MOST_SEEDS = 32
"""Noise seeds that are planned at most where no baseline says how many there are."""

_LEVEL = 0.0


def design_of(baseline: Arm, spec: EvalSpec, policy: GatePolicy) -> Design:
    """Return what a plan for a gate under ``policy`` against ``baseline`` follows from; ``spec`` is the baseline's.

    Items are taken in the baseline's own order, noise seeds from 0 on. Raises :class:`HarnessError` where all items
    share their draws.
    """
    check_apart(keyed_shared(baseline) or engine_varies(baseline))
    names = sorted({item for cells in baseline.outcomes.values() for item in cells})
    order = choice_order(names, spec.item_seed)
    judged = [level for level in policy.levels or sorted(baseline.outcomes) if level in baseline.outcomes]
    sampled = is_sampled(baseline.key)
    demands = [
        demand
        for level in judged
        for demand in (_difference(baseline, level, policy, sampled), _retention(baseline, level, policy, sampled))
        if demand is not None
    ]
    clusters = tuple(baseline.clusters.get(item, f"item {item}") for item in order) if baseline.clusters else ()
    seeds = max(len(seeds_of(cells)) for cells in baseline.outcomes.values())
    return Design(
        demands=tuple(demands),
        sweep=sweep_of(spec, policy),
        items=len(order),
        seeds=(policy.noise_seeds, seeds),
        clusters=clusters if len(set(clusters)) < len(clusters) else (),
        alpha=policy.alpha_left or policy.alpha,
        least_items=_least_items(baseline, len(order), policy),
        said=f"{baseline.label}'s own discordance ({100 * ASSUMED_DISCORDANCE:g} % where it has one draw)",
    )


def assumed_design(spec: EvalSpec, items: Sequence[str], clusters: Mapping[str, str], policy: GatePolicy) -> Design:
    """Return what a plan for an evaluation by ``spec`` follows from where there is no baseline: the discordances are
    assumed. ``items`` are all there are, in their order.

    Raises :class:`HarnessError` where all items share their draws, and for a rule for a level that is not evaluated.
    """
    check_apart("key:shared" in str(spec.noise))
    policy.check_judged(policy.levels or spec.levels)
    sampled = spec.sampling is not None
    demands = tuple(
        Demand(
            level,
            DIFFERENCE,
            policy.margin_at(level),
            ASSUMED_NOISY if level or sampled else ASSUMED_DISCORDANCE,
            repeated=bool(level) or sampled,
            own=False,
        )
        for level in policy.levels or spec.levels
    )
    names = tuple(clusters.get(item, f"item {item}") for item in items)
    drawn = any(spec.levels) or sampled
    return Design(
        demands=demands,
        sweep=sweep_of(spec, policy),
        items=len(items),
        seeds=(policy.noise_seeds, max(policy.noise_seeds, MOST_SEEDS)) if drawn else (1, 1),
        clusters=names if len(set(names)) < len(names) else (),
        alpha=policy.alpha,
        said=f"assumed discordance, {100 * ASSUMED_DISCORDANCE:g} % of single draws and {100 * ASSUMED_NOISY:g} % of"
        " draws under noise",
    )


def sweep_of(spec: EvalSpec, policy: GatePolicy) -> Sweep:
    """Return what an evaluation by ``spec`` for a gate under ``policy`` runs of every item."""
    return Sweep(
        noisy=sum(level > 0 for level in spec.levels),
        sampled=spec.sampling is not None,
        control=spec.positive_control,
        block=BLOCK if policy.early_stop else 0,
    )


def check_apart(shared: bool) -> None:
    """Raise :class:`HarnessError` where all items share the draws of a noise seed."""
    if shared:
        raise HarnessError(
            "--budget where all items share the draws of a noise seed (key:shared, or an engine that varies)",
            "how far seeds lie apart is part of the interval, and nothing says it beforehand",
            "give --items and --noise-seeds (5 or more)",
        )


def _difference(baseline: Arm, level: float, policy: GatePolicy, sampled: bool) -> Demand:
    items, scores = complete_scores(baseline.outcomes[level], len(seeds_of(baseline.outcomes[level])))
    own = scores.shape[1] >= 2 and len(scores) > 0
    return Demand(
        level,
        DIFFERENCE,
        policy.margin_at(level),
        2 * _within(scores) if own else ASSUMED_DISCORDANCE,
        repeated=bool(level) or sampled,
        own=own,
        correlation=_correlation(baseline, items, scores),
    )


def _retention(baseline: Arm, level: float, policy: GatePolicy, sampled: bool) -> Demand | None:
    """That of a least retention, ``None`` where none gates, or where the baseline itself does not lie above it, which
    is said before anything runs."""
    minimum, clean = policy.retention_at(level), baseline.outcomes.get(_LEVEL)
    if minimum is None or not level or not clean:
        return None
    there = {item: row for item, row in baseline.outcomes[level].items() if item in clean}
    items, noisy = complete_scores(there, len(seeds_of(there)))
    reference = np.array([np.mean([outcome.right for outcome in clean[item].values()]) for item in items])
    right = float(reference.mean()) if len(items) else 0.0
    allowed = float(noisy.mean()) / right - minimum if right else 0.0
    if allowed <= 0 or len(items) < 2:
        return None
    apart: Floats = noisy.mean(axis=1) - minimum * reference
    within = _within(noisy) if noisy.shape[1] > 1 else 0.0
    between = max(0.0, float(apart.var(ddof=1)) - within / noisy.shape[1])
    correlation = _correlation(baseline, items, apart[:, None])
    return Demand(level, RETENTION, allowed, within, between, True, True, right, correlation)


def _within(scores: Floats) -> float:
    """The variance of one draw about its item's mean (items, seeds), at least two seeds."""
    return float(scores.var(axis=1, ddof=1).mean())


def _correlation(baseline: Arm, items: Sequence[str], scores: Floats) -> float:
    names = [baseline.clusters.get(item, f"item {item}") for item in items]
    together = 2 <= len(set(names)) < len(names)
    return correlation_of(scores, names) if together else 0.0


def _least_items(baseline: Arm, items: int, policy: GatePolicy) -> int:
    """The smallest number of items on which the baseline's clean accuracy lies above the floor, by Wilson's bound on
    its share of right answers; all of them where none does."""
    cells = baseline.outcomes.get(_LEVEL, {})
    right = [outcome.right for row in cells.values() for outcome in row.values() if outcome.measured]
    share = float(np.mean(right)) if right else 0.0
    floor = floor_of((baseline,), policy.floor)
    for count in range(2, items):
        if wilson(share * count, count, policy.alpha).low >= floor:
            return count
    return items
