"""Sampled answers of two arms of training runs: pass@k, pass^k and maj@k of every run, compared over training seeds.

They describe and decide nothing: the verdict is on the mean accuracy, which is pass@1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.gates.arms import ReplicatedArm
from harness.gates.repeated import repeated_scores
from harness.record import Arm
from harness.stats.replicates import ReplicateDifference, welch
from harness.votes import voted


@dataclass(frozen=True)
class RepeatedDifference:
    """One measure of ``k`` answers to an item: ``values`` holds that of every run of both arms (fractions, means over
    items), ``difference`` is Welch's of the first arm minus the second."""

    measure: str
    k: int
    values: Mapping[str, tuple[float, ...]]
    difference: ReplicateDifference

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {
            "measure": self.measure,
            "k": self.k,
            "values": {label: list(values) for label, values in self.values.items()},
            "difference": self.difference.to_json(),
        }


def repeated_differences(arms: Sequence[ReplicatedArm], level: float, alpha: float) -> tuple[RepeatedDifference, ...]:
    """Return every measure that all runs of both ``arms`` have at ``level``; ``alpha`` is one-sided, for each row by
    itself. Empty where nothing was sampled, or with one draw."""
    found = {arm.label: [_measures(each.run, level, alpha) for each in arm.replicates] for arm in arms}
    runs = [run for own in found.values() for run in own]
    shared = [row for row in runs[0] if all(row in run for run in runs)]
    differences = []
    for measure, k in shared:
        values = {label: tuple(run[measure, k] for run in own) for label, own in found.items()}
        first, second = values.values()
        differences.append(RepeatedDifference(measure, k, values, welch(first, second, alpha)))
    return tuple(differences)


def _measures(run: Arm, level: float, alpha: float) -> dict[tuple[str, int], float]:
    """The means over the items of one run, by measure and k."""
    cells, votes = run.outcomes[level], run.votes.get(level)
    answers = None if votes is None else (voted(votes), voted(votes))
    rows = repeated_scores(cells, None, alpha, key=run.key, clusters=run.clusters, answers=answers)
    return {(row.measure, row.k): row.value.estimate for row in rows}
