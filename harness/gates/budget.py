"""How many items and noise seeds a gate should have within a number of seconds: those with which it can tell the
smallest effect.

The effect is the minimum detectable one of each requirement (:mod:`harness.stats.power`, probability 0.8), in units of
what the policy allows there: the margin, or what the baseline's retention lies above the least one. The largest of
these is what the gate as a whole can tell, so that the plan with the smallest largest one is chosen; the second largest
decides between equals, and so on, then more seeds and items. A plan by which PASS is out of reach even if nothing is
lost is none.

Nothing here knows an outcome of the candidate. What is known comes from the baseline, or is assumed, and from the
seconds that were measured: a choice that looked at the candidate's scores would bend the error rates of its verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import special

from harness.exceptions import HarnessError
from harness.gates.costs import Costs, Counts, Floats, Sweep, seconds
from harness.gates.forecast import POWER
from harness.stats.odds import VerdictOdds, verdict_odds, verdict_odds_mean
from harness.stats.quantiles import z_quantile

DIFFERENCE, RETENTION = "difference", "retention"
RESERVE = 0.05
"""Share of the budget that no plan uses (fraction): what a forecast from a short calibration may be wrong by."""


@dataclass(frozen=True)
class Demand:
    """One requirement at one level, as planning sees it; fractions throughout.

    ``allowed`` is what the policy allows. The variance of an item's difference is ``between`` plus ``within`` divided
    by the draws: the noise seeds where ``repeated``, else one. ``own`` is False where that is assumed. ``scale``
    divides a difference into the unit of ``allowed``. ``correlation`` is that of the items of one cluster.
    """

    level: float
    what: str
    allowed: float
    within: float
    between: float = 0.0
    repeated: bool = True
    own: bool = True
    scale: float = 1.0
    correlation: float = 0.0

    def variance(self, seeds: int) -> float:
        """Return the variance of an item's difference with that many noise seeds."""
        return self.between + self.within / (seeds if self.repeated else 1)


@dataclass(frozen=True)
class Design:
    """Everything that a plan follows from, but the costs.

    ``items`` counts those there are, ``least_items`` those that a verdict needs (of the floor); ``seeds`` is the least
    and the most number of noise seeds. ``clusters`` names the cluster of every item in the order in which they are
    taken, empty where each stands by itself. ``alpha`` is one-sided. ``said`` is where all of it comes from, in words.
    """

    demands: tuple[Demand, ...]
    sweep: Sweep
    items: int
    seeds: tuple[int, int]
    clusters: tuple[str, ...] = ()
    alpha: float = 0.05
    least_items: int = 2
    said: str = ""

    def layout(self, items: Counts) -> tuple[Floats, Floats]:
        """Return (as how many independent units the first ``items`` count, the size of an average item's cluster)."""
        if not self.clusters:
            return items.astype(np.float64), np.ones(len(items))
        sizes: dict[str, int] = {}
        squares, total = [0], 0
        for name in self.clusters:
            total += 2 * sizes.get(name, 0) + 1
            sizes[name] = sizes.get(name, 0) + 1
            squares.append(total)
        square = np.array(squares, dtype=np.float64)[items]
        return np.floor(items**2.0 / square + 1e-9), square / items

    def effects(self, items: Counts, seeds: int) -> Floats:
        """Return the minimum detectable effect of every demand (demands, items), in its own unit, at most 1."""
        units, size = self.layout(items)
        return np.array([self._effect(demand, items, units, size, seeds) for demand in self.demands])

    def _effect(self, demand: Demand, items: Counts, units: Floats, size: Floats, seeds: int) -> Floats:
        enough = units >= 2
        n = np.maximum(units, 2.0)
        error = _spread(demand, items, units, size, seeds) / np.sqrt(n)
        half = np.maximum(-special.stdtrit(n - 1, self.alpha) * error, _open(n, self.alpha))
        found = (half + z_quantile(1 - POWER) * error) / demand.scale
        return np.asarray(np.where(enough, np.minimum(1.0, found), 1.0))

    def reachable(self, items: Counts) -> Any:
        """Return whether something that lost nothing can PASS on so many items, bool (items,)."""
        units, _ = self.layout(items)
        narrowest = min((demand.allowed for demand in self.differences), default=1.0)
        return (units >= 2) & (_open(units, self.alpha) < narrowest) & (items >= self.least_items)

    @property
    def differences(self) -> tuple[Demand, ...]:
        """The demands on differences, one for each level."""
        return tuple(demand for demand in self.demands if demand.what == DIFFERENCE)

    def odds(self, items: int, seeds: int, family: int | None = None) -> VerdictOdds:
        """Return the odds of the whole gate if nothing changed, the levels taken as independent; alarms are adjusted
        over ``family`` levels (None: these). Retentions are left out."""
        count = np.array([items])
        units, size = self.layout(count)
        demands, levels = self.differences, family or len(self.differences)
        passing, quiet = 1.0, 1.0
        for demand in demands:
            spread = float(_spread(demand, count, units, size, seeds)[0])
            own, alarm = (
                verdict_odds(items, demand.variance(seeds), demand.allowed, alpha=alpha)
                if not demand.own and not demand.repeated and not self.clusters
                else verdict_odds_mean(int(units[0]), spread, demand.allowed, alpha=alpha)
                for alpha in (self.alpha, self.alpha / levels)
            )
            passing, quiet = passing * own.passing, quiet * (1 - alarm.failing)
        return VerdictOdds(passing, max(0.0, quiet - passing), 1 - quiet)


def _open(units: Floats, alpha: float) -> Floats:
    """As :func:`harness.stats.quantiles.zero_discordance`."""
    square = z_quantile(alpha) ** 2
    return np.asarray(square / (units + square))


def _spread(demand: Demand, items: Counts, units: Floats, size: Floats, seeds: int) -> Floats:
    """The standard deviation of a unit that gives the mean over items its standard error."""
    design = 1.0 + (size - 1.0) * min(1.0, max(0.0, demand.correlation))
    return np.asarray(np.sqrt(demand.variance(seeds) * design * units / np.maximum(items, 1)))


@dataclass(frozen=True)
class Effect:
    """What a plan can tell of one requirement: its minimum detectable ``effect`` beside what is ``allowed``
    (fractions)."""

    level: float
    what: str
    effect: float
    allowed: float


@dataclass(frozen=True)
class BudgetPlan:
    """What was chosen: ``items`` of ``items_of``, ``noise_seeds`` of ``seeds_of`` at most, the ``forecast`` of the
    whole evaluation in seconds, what it can tell and the odds if nothing changed."""

    items: int
    items_of: int
    noise_seeds: int
    seeds_of: int
    forecast: float
    effects: tuple[Effect, ...]
    odds: VerdictOdds

    @property
    def whole(self) -> bool:
        """True where there is nothing more to evaluate."""
        return (self.items, self.noise_seeds) == (self.items_of, self.seeds_of)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {**asdict(self), "effects": [asdict(effect) for effect in self.effects]}


@dataclass(frozen=True)
class _Candidate:
    """A plan by number, with its ratios effect / allowed, largest first."""

    ratios: tuple[float, ...]
    seeds: int
    items: int

    @property
    def rank(self) -> tuple[Any, ...]:
        return self.ratios, -self.seeds, -self.items


def choose(design: Design, costs: Costs, budget: float) -> BudgetPlan:
    """Return the plan within ``budget`` (seconds) that can tell the smallest effect: see the module.

    A larger budget never gives a plan that tells less. Raises :class:`HarnessError` with the least budget that would
    do where none fits, and where no number of items would.
    """
    best = best_within(design, costs, usable(budget))
    if best is None:
        raise too_small(budget, least_seconds(design, costs))
    return plan_of(design, costs, *best)


def best_within(design: Design, costs: Costs, most: float) -> tuple[int, int] | None:
    """Return (items, noise seeds) of the best plan whose forecast is at most ``most`` seconds, ``None`` where there is
    none."""
    best = min(_candidates(design, costs, most), key=lambda each: each.rank, default=None)
    return None if best is None else (best.items, best.seeds)


def usable(budget: float) -> float:
    """Return the seconds of ``budget`` that a plan may use."""
    return budget * (1 - RESERVE)


def plan_of(design: Design, costs: Costs, items: int, seeds: int) -> BudgetPlan:
    """Return the plan of so many ``items`` and ``seeds``, whatever it costs."""
    count = np.array([items])
    effects = tuple(
        Effect(demand.level, demand.what, float(effect), demand.allowed)
        for demand, effect in zip(design.demands, design.effects(count, seeds)[:, 0], strict=True)
    )
    forecast = float(seconds(costs, design.sweep, count, seeds)[0])
    odds = design.odds(items, seeds)
    return BudgetPlan(items, design.items, seeds, design.seeds[1], forecast, effects, odds)


def least_seconds(design: Design, costs: Costs) -> float | None:
    """Return the least budget (seconds) for which there is a plan, ``None`` where no number of items is enough."""
    items = np.arange(1, design.items + 1)
    there = items[design.reachable(items)]
    if not len(there) or design.seeds[0] > design.seeds[1]:
        return None
    cheapest = seconds(costs, design.sweep, there[:1], design.seeds[0])
    return float(cheapest[0]) / (1 - RESERVE)


def too_small(budget: float, least: float | None) -> HarnessError:
    """Return the error for a ``budget`` that no plan fits, where ``least`` would do (seconds; None: nothing would)."""
    if least is None:
        return HarnessError(
            f"--budget {budget:g}",
            "on all items that there are nothing could PASS, so that no number of seconds would do",
            "widen the margin, or take more items",
        )
    return HarnessError(
        f"--budget {budget:g}",
        "within it PASS is out of reach even if nothing is lost, so that it would give no verdict",
        f"about {math.ceil(least)} seconds are the least that would do",
    )


def enough_seconds(design: Design, costs: Costs, passing: float = POWER) -> float | None:
    """Return about the least budget (seconds, in steps of a tenth) whose plan PASSes with probability ``passing`` if
    nothing changed, ``None`` where even everything does not."""
    whole = plan_of(design, costs, design.items, design.seeds[1])
    budget = least_seconds(design, costs)
    if budget is None or whole.odds.passing < passing:
        return None
    while choose(design, costs, budget).odds.passing < passing:
        if usable(budget) > whole.forecast:
            return None
        budget *= 1.1
    return budget


def _candidates(design: Design, costs: Costs, most: float) -> Iterator[_Candidate]:
    """The best number of items for each number of seeds, within ``most`` seconds."""
    items = np.arange(1, design.items + 1)
    items = items[design.reachable(items)]
    least, largest = design.seeds
    for seeds in range(least, largest + 1):
        taken = seconds(costs, design.sweep, items, seeds)
        fitting = items[taken <= most]
        if not len(fitting):
            return  # more seeds take longer
        # more items tell more, unless those of one cluster come to weigh more
        yield _best_of(design, fitting if design.clusters else fitting[-1:], seeds)


def _best_of(design: Design, items: Counts, seeds: int) -> _Candidate:
    """The best of ``items`` (ascending) with so many ``seeds``."""
    allowed = np.array([demand.allowed for demand in design.demands])[:, None]
    ratios = -np.sort(-design.effects(items, seeds) / allowed, axis=0)
    at = int(np.lexsort((-items, *ratios[::-1]))[0])
    return _Candidate(tuple(ratios[:, at].tolist()), seeds, int(items[at]))
