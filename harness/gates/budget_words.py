"""What is said of a plan within a budget, before it runs."""

from __future__ import annotations

import math

from harness.gates.budget import DIFFERENCE, BudgetPlan
from harness.gates.costs import Costs
from harness.stats.odds import VerdictOdds

LIKELY = 0.5
"""Below this probability of PASS if nothing changed (fraction) a plan is warned of."""


def plan_line(plan: BudgetPlan, costs: Costs, budget: float, known: str) -> str:
    """Return in one line what was chosen within ``budget`` seconds, what it will cost, by what that was measured, and
    what it can tell; ``known`` says where that comes from."""
    each = " or ".join(f"{1000 * rate.record:.3g}" for rate in (costs.clean, costs.noisy))
    effects = ", ".join(_effect(effect) for effect in plan.effects)
    all_of = ", which is everything" if plan.whole else ""
    return (
        f"budget {budget:g} s: {plan.items} of {plan.items_of} items and {plan.noise_seeds} of at most {plan.seeds_of}"
        f" noise seeds{all_of}; forecast {plan.forecast:.0f} s, timed on this machine ({costs.spent:.1f} s for start-up"
        f" and timing, {each} ms for a clean or noisy record in batches of {costs.batch_size}, with audits, control and"
        f" replay); minimum detectable effect {effects} (one-sided, power 0.8, by {known}); if nothing changed: PASS"
        f" {plan.odds.passing:.2f}, INCONCLUSIVE {plan.odds.inconclusive:.2f}, FAIL {plan.odds.failing:.2f}"
    )


def together_lines(tasks: int, forecast: float, odds: VerdictOdds) -> tuple[str, ...]:
    """Return what is said of the plans of so many ``tasks`` together: their ``forecast`` (seconds), the ``odds`` of the
    whole gate, and a warning where PASS is unlikely."""
    line = (
        f"all {tasks} tasks: forecast {forecast:.0f} s; the whole gate, if nothing changed: PASS {odds.passing:.2f},"
        f" INCONCLUSIVE {odds.inconclusive:.2f}, FAIL {odds.failing:.2f}"
    )
    if odds.passing >= LIKELY:
        return (line,)
    worry = (
        f"warning: within this budget a checkpoint that lost nothing is INCONCLUSIVE with probability"
        f" {odds.inconclusive:.2f}; give more seconds, fewer tasks or wider margins"
    )
    return line, worry


def _effect(effect: object) -> str:
    level, what, size, allowed = (getattr(effect, name) for name in ("level", "what", "effect", "allowed"))
    name = "" if what == DIFFERENCE else " of retention"
    return f"{100 * size:.1f} points{name} at {100 * level:g} % (allowed {100 * allowed:.1f})"


def warning(plan: BudgetPlan, enough: float | None) -> str | None:
    """Return what is to be said where ``plan`` decides little, ``None`` where PASS is likely; ``enough`` is the budget
    that would do (seconds, None: none would)."""
    if plan.odds.passing >= LIKELY:
        return None
    way_out = (
        "even all items and seeds would not PASS with probability 0.8: widen the margin, or take more of both"
        if enough is None
        else f"about {math.ceil(enough)} seconds would PASS with probability 0.8"
    )
    return (
        f"warning: within this budget a checkpoint that lost nothing is INCONCLUSIVE with probability"
        f" {plan.odds.inconclusive:.2f}; {way_out}"
    )
