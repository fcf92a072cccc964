"""Early stopping of a gate: which items are looked at, in which order, and when every judged level is decided.

The evaluation and the gate share these functions, so that what stopped a run is what its stored records say again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.exceptions import HarnessError
from harness.gates.evidence import shares_draws
from harness.gates.pairing import Cells, pair, seeds_of
from harness.gates.policy import GatePolicy, PerLevel
from harness.record import Arm
from harness.stats.sequential import EarlyStop, early_stop, seeded_order

BLOCK = 32
"""Items evaluated between two looks, each at all levels and seeds. Neither the batch size nor the device changes it,
so neither changes which items a run holds when it stops."""

Outcomes = Mapping[float, Cells]


@dataclass(frozen=True)
class EarlyPlan:
    """By which rule an evaluation may stop: kept in its manifest, and demanded again by the gate that judges it.

    ``share`` of the one-sided ``alpha`` goes to looking early; ``margins`` holds (level, margin) of every judged level,
    ascending (fractions); ``order_seed`` is the seed of the random order of the items; ``baseline`` the digest of the
    baseline file, empty where no evaluation depends on it.
    """

    share: float
    alpha: float
    margins: PerLevel
    order_seed: int = 0
    baseline: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for the manifest."""
        return {
            "share": self.share,
            "alpha": self.alpha,
            "margins": [list(pair) for pair in self.margins],
            "order_seed": self.order_seed,
            "baseline": self.baseline,
        }

    def order(self, items: Sequence[str] | set[str]) -> tuple[str, ...]:
        """Return ``items`` in seeded random order: it depends on their hashes only, not on scores or other items."""
        return seeded_order(sorted(items), self.order_seed)

    def blocks(self, items: Sequence[str] | set[str]) -> tuple[tuple[str, ...], ...]:
        """Return :meth:`order` in blocks of :data:`BLOCK` items."""
        ordered = self.order(items)
        return tuple(ordered[start : start + BLOCK] for start in range(0, len(ordered), BLOCK))

    def look(self, candidate: Outcomes, baseline: Outcomes, items: Sequence[str], planned: int) -> Looks:
        """Return the e-processes of every judged level over ``items``, the first ones of the order of ``planned``
        items.

        Unmeasured outcomes count against each claim: as lost for "within" the margin, as gained for "beyond" it.
        """
        found = {level: self._level(candidate, baseline, level, items, planned) for level, _ in self.margins}
        return Looks(self, tuple(items), planned, found)

    def _level(
        self, candidate: Outcomes, baseline: Outcomes, level: float, items: Sequence[str], planned: int
    ) -> EarlyStop:
        ours, theirs = candidate.get(level, {}), baseline.get(level, {})
        margin = dict(self.margins)[level]
        if not ours or not theirs or seeds_of(ours) != seeds_of(theirs):  # cannot be paired: the gate says INVALID
            return early_stop([], margin, self.alpha, self.share, planned=planned, alarms=len(self.margins))
        pairs = pair(ours, theirs, rows=items)
        (lost, least), (gained, most) = pairs.filled(0.0, 1.0).means(), pairs.filled(1.0, 0.0).means()
        apart, most = lost - least, gained - most
        alarms = len(self.margins)
        return early_stop(apart, margin, self.alpha, self.share, most=most, planned=planned, alarms=alarms)


@dataclass(frozen=True)
class Looks:
    """What looking early found: ``items`` were looked at, in order, of ``planned``; ``levels`` holds the rest."""

    plan: EarlyPlan
    items: tuple[str, ...]
    planned: int
    levels: Mapping[float, EarlyStop]

    @property
    def decided(self) -> bool:
        """True where every judged level is decided, so that no further item needs to be evaluated."""
        return bool(self.levels) and all(stop.decision is not None for stop in self.levels.values())

    @property
    def saved(self) -> float:
        """Share of the items that need not be evaluated (fraction)."""
        return 1 - len(self.items) / self.planned if self.planned else 0.0

    @property
    def label(self) -> str:
        """One sentence for reports."""
        plan = self.plan
        words = f"{len(self.items)} of {self.planned} items were evaluated, in seeded random order"
        if self.saved:
            words += f" ({100 * self.saved:.1f} % saved)"
        if any(stop.decision is not None for stop in self.levels.values()):
            words += "; at a level that stopped early the e-value decides, its intervals are shown only"
        return f"early stopping, on {plan.share:g} of alpha {plan.alpha:g}: {words}"

    def restrict(self, arm: Arm) -> Arm:
        """Return ``arm`` without the items that were not evaluated: they are left out by design, and not missing."""
        if len(self.items) == self.planned:
            return arm
        kept = set(self.items)
        outcomes = {
            level: {item: row for item, row in cells.items() if item in kept} for level, cells in arm.outcomes.items()
        }
        return replace(arm, outcomes=outcomes)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {
            "share": self.plan.share,
            "alpha": self.plan.alpha,
            "order_seed": self.plan.order_seed,
            "evaluated": len(self.items),
            "planned": self.planned,
            "saved": self.saved,
            "label": self.label,
        }


def plan_of(policy: GatePolicy, levels: Sequence[float], order_seed: int = 0, baseline: str = "") -> EarlyPlan | None:
    """Return the plan of ``policy`` for the judged ``levels``, ``None`` where it does not stop early."""
    if not policy.early_stop:
        return None
    margins = tuple((float(level), policy.margin_at(level)) for level in sorted(levels))
    return EarlyPlan(policy.early_stop, policy.alpha, margins, order_seed, baseline)


def check_independent(plan: EarlyPlan, *arms: Arm) -> None:
    """Raise :class:`HarnessError` where items share draws or come in clusters: then they are no independent bets."""
    if any(shares_draws(arm, level) for arm in arms for level, _ in plan.margins):
        raise HarnessError(
            f"early_stop {plan.share:g} under key:shared, or an engine that does not repeat itself",
            "all items share the draws of a seed, so they are not independent, which early stopping needs",
            "drop early_stop, or key:shared",
        )
    for arm in arms:
        names = [name for item, name in arm.clusters.items() if any(item in cells for cells in arm.outcomes.values())]
        if len(set(names)) < len(names):
            raise HarnessError(
                f"early_stop {plan.share:g} on items in clusters",
                "items of a cluster move together, so they are not independent, which early stopping needs",
                "drop early_stop",
            )


def look_back(plan: EarlyPlan, candidate: Arm, baseline: Arm) -> Looks:
    """Return what looking early found in finished arms.

    The items behind the last one that ``candidate`` has are left out by design if every level is decided without
    them. Otherwise they are missing.
    """
    known = {level: {*candidate.outcomes.get(level, {})} for level, _ in plan.margins}
    evaluated = set().union(*known.values())
    order = plan.order(evaluated.union(*(baseline.outcomes.get(level, {}) for level in known)))
    end = max((place + 1 for place, item in enumerate(order) if item in evaluated), default=0)
    found = plan.look(candidate.outcomes, baseline.outcomes, order[:end], len(order))
    if found.decided or end == len(order):
        return found
    return plan.look(candidate.outcomes, baseline.outcomes, order, len(order))
