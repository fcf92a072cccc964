"""Scores of parts of a task (paradigms, subjects, kinds of problems), for people: no verdict rests on them.

A group is what the task names as such, or else its clusters. Intervals are those of a gate over the items of the group
alone, each by itself and none adjusted for how many groups are looked at: of fifty groups that lost nothing, some lie
below zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.gates.evidence import shares_draws
from harness.gates.pairing import Cells, pair
from harness.gates.requirements import accuracy, difference
from harness.gates.result import GateResult
from harness.record import Arm
from harness.stats import Interval
from harness.thresholds import ALPHA

TASK_CLUSTER, PROMPT_CLUSTER = "task:", "prompt:"
"""How the names of clusters begin: those that a task names, and those of items with the same prompt."""
LEAST = 5
"""Items that a group needs to be shown; smaller ones are counted."""


@dataclass(frozen=True)
class SubScore:
    """One group at one level: ``n`` items, fractions. ``baseline`` and ``difference`` are None for a run alone."""

    group: str
    level: float
    n: int
    accuracy: Interval
    baseline: Interval | None = None
    difference: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        intervals = {name: getattr(self, name) for name in ("accuracy", "baseline", "difference")}
        shown = {name: None if each is None else each.to_json() for name, each in intervals.items()}
        return {"group": self.group, "level": self.level, "n": self.n, **shown}


@dataclass(frozen=True)
class SubScores:
    """Those of all levels, worst first within a level: by difference, or by accuracy. ``smaller`` counts the groups
    of fewer than :data:`LEAST` items."""

    scores: tuple[SubScore, ...] = ()
    smaller: int = 0
    alpha: float = ALPHA

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {
            "groups": [each.to_json() for each in self.scores],
            "smaller": self.smaller,
            "least": LEAST,
            "alpha": self.alpha,
        }


def groups_of(arm: Arm) -> dict[str, str]:
    """Return item -> the group that its task names, or else its cluster; items without one are left out."""
    if arm.groups:
        return dict(arm.groups)
    return {
        item: name.removeprefix(TASK_CLUSTER)
        for item, name in arm.clusters.items()
        if not name.startswith(PROMPT_CLUSTER)
    }


def gated_subscores(arm: Arm, baseline: Arm, result: GateResult) -> SubScores:
    """Return :func:`subscores` of what ``result`` judged, at the levels where it could compare."""
    compared = {level.level for level in result.levels if level.difference is not None}
    kept = {level: cells for level, cells in arm.outcomes.items() if level in compared}
    return subscores(replace(arm, outcomes=kept), baseline, result.alphas[1]) if kept else SubScores()


def subscores(arm: Arm, baseline: Arm | None = None, alpha: float = ALPHA) -> SubScores:
    """Return the scores of each group of ``arm`` at each level that it has, beside those of ``baseline`` at the levels
    of both; one-sided bounds at ``alpha``. Empty where the items form fewer than two groups.
    """
    groups = groups_of(arm)
    sizes = Counter(groups.values())
    if len(sizes) < 2:
        return SubScores()
    names = [name for name, count in sizes.items() if count >= LEAST]
    found: list[SubScore] = []
    for level, cells in sorted(arm.outcomes.items()):
        theirs = None if baseline is None else baseline.outcomes.get(level)
        if baseline is not None and theirs is None:
            continue
        shared = any(shares_draws(side, level) for side in (arm, baseline) if side is not None)
        own = [_score(name, level, _within(cells, groups, name), theirs, shared, alpha) for name in names]
        found += sorted((each for each in own if each is not None), key=_worst_first)
    return SubScores(tuple(found), len(sizes) - len(names), alpha)


def _score(name: str, level: float, cells: Cells, theirs: Cells | None, shared: bool, alpha: float) -> SubScore | None:
    """The group ``name``, None where nothing of it was measured; ``theirs`` are the baseline's outcomes."""
    other = cells if theirs is None else {item: theirs[item] for item in cells if item in theirs}
    if not cells or not other:
        return None
    pairs = pair(cells, other, shared)
    if not pairs.n:
        return None
    ours, before = pairs.means()
    if theirs is None:
        return SubScore(name, level, pairs.n, accuracy(pairs, ours, alpha))
    both = accuracy(pairs, ours, alpha), accuracy(pairs, before, alpha)
    return SubScore(name, level, pairs.n, *both, difference(pairs, alpha))


def _within(cells: Cells, groups: Mapping[str, str], name: str) -> Cells:
    return {item: row for item, row in cells.items() if groups.get(item) == name}


def _worst_first(score: SubScore) -> tuple[float, str]:
    shown = score.accuracy if score.difference is None else score.difference
    return shown.estimate, score.group
