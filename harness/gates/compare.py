"""Two arms of replicated training runs: is there a difference that other training seeds would show again?

The unit is the training run: one number per run and level, the mean over its items and noise seeds. One training seed
per arm is no claim, whatever the numbers: nothing says how much another seed would differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.exceptions import HarnessError
from harness.gates.arms import ReplicatedArm, arm_problems, pair_problems
from harness.gates.compare_repeated import RepeatedDifference, repeated_differences
from harness.gates.pairing import seeds_of
from harness.gates.policy import check_alpha
from harness.gates.verdicts import INVALID
from harness.record import Arm
from harness.stats.replicates import Permutation, ReplicateDifference, permutation, pooled_sd, seeds_needed, welch

DIFFERENCE, NO_DIFFERENCE_SHOWN, NO_CLAIM = "DIFFERENCE", "NOT ESTABLISHED", "NO CLAIM"
EXIT = {DIFFERENCE: 0, NO_DIFFERENCE_SHOWN: 3, NO_CLAIM: 3, INVALID: 4}
_ORDER = (INVALID, DIFFERENCE, NO_CLAIM, NO_DIFFERENCE_SHOWN)


@dataclass(frozen=True)
class LevelDifference:
    """First arm minus second at one level; accuracies are fractions, one per run.

    ``needed`` is the number of training seeds per arm at which the estimate would be found with probability 0.8;
    ``repeated`` are the measures of sampled answers.
    """

    level: float
    verdict: str
    reasons: tuple[str, ...]
    values: Mapping[str, tuple[float, ...]]
    difference: ReplicateDifference | None = None
    permutation: Permutation | None = None
    sd: float = math.nan
    needed: int | None = None
    repeated: tuple[RepeatedDifference, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {
            "level": self.level,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "values": {label: list(values) for label, values in self.values.items()},
            "difference": None if self.difference is None else self.difference.to_json(),
            "permutation": None if self.permutation is None else self.permutation.to_json(),
            "pooled_sd": self.sd if math.isfinite(self.sd) else None,
            "seeds_needed": self.needed,
            **({"repeated": [each.to_json() for each in self.repeated]} if self.repeated else {}),
        }


@dataclass(frozen=True)
class ArmComparison:
    """The comparison at every level; ``family`` says how the levels are held together, ``notes`` what the certificates
    of the runs want said first."""

    verdict: str
    arms: tuple[str, str]
    factor: str | None
    levels: tuple[LevelDifference, ...]
    family: str
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 a difference at some level, 3 none established or no claim, 4 INVALID."""
        return EXIT[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Return one object for strict JSON."""
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "notes": list(self.notes),
            "arms": list(self.arms),
            "factor": self.factor,
            "family": self.family,
            "levels": [level.to_json() for level in self.levels],
        }


def compare_arms(arms: Sequence[ReplicatedArm], factor: str | None = None, alpha: float = 0.025) -> ArmComparison:
    """Compare two arms at every level that all their runs have; ``alpha`` is one-sided, for all levels together.

    Each level is judged by Welch's t at alpha / number of levels (Bonferroni); the exact permutation test stands beside
    it with the least p it can attain. Raises :class:`HarnessError` unless there are two arms of different labels.
    """
    check_alpha(alpha)
    if len(arms) != 2 or arms[0].label == arms[1].label or not all(arm.replicates for arm in arms):
        labels = ", ".join(arm.label for arm in arms)
        raise HarnessError(f"arms {labels or 'none'}", "two arms of different names are compared", "give --arm twice")
    runs = [each.run for arm in arms for each in arm.replicates]
    levels = sorted(set.intersection(*(set(run.outcomes) for run in runs)))
    if not levels:
        raise HarnessError("arms without a common level", "every run needs the levels that are compared")
    general = pair_problems(arms, factor)
    found = tuple(_level(arms, level, general, alpha / len(levels)) for level in levels)
    return ArmComparison(
        min((level.verdict for level in found), key=_ORDER.index),
        (arms[0].label, arms[1].label),
        factor,
        found,
        f"Bonferroni over {len(levels)} levels; alpha {2 * alpha:g} two-sided for all of them",
        tuple(dict.fromkeys(f"{run.label}: {note}" for run in runs for note in run.certificate.notes)),
    )


def _level(arms: Sequence[ReplicatedArm], level: float, general: Sequence[str], alpha: float) -> LevelDifference:
    values = {arm.label: tuple(_accuracy(each.run, level) for each in arm.replicates) for arm in arms}
    problems = (*general, *(words for arm in arms for words in arm_problems(arm, level)), *_uneven(arms, level))
    if problems:
        return LevelDifference(level, INVALID, problems, values)
    found = _judged(level, values, alpha)
    return replace(found, repeated=repeated_differences(arms, level, alpha))


def _judged(level: float, values: Mapping[str, tuple[float, ...]], alpha: float) -> LevelDifference:
    """The verdict on one accuracy per run."""
    first, second = values.values()
    difference = _possible(welch(first, second, alpha))
    if min(difference.runs) < 2:
        words = (
            f"one training seed in an arm ({len(first)} and {len(second)}): no claim, another seed may show anything"
        )
        return LevelDifference(level, NO_CLAIM, (words,), values, difference)
    if difference.degenerate:
        words = "all runs of an arm have one value, so that nothing shows how far seeds lie apart"
        return LevelDifference(level, NO_CLAIM, (words,), values, difference)
    sd = pooled_sd(list(values.values())).sd
    low, high = difference.interval.low, difference.interval.high
    verdict = DIFFERENCE if low > 0 or high < 0 else NO_DIFFERENCE_SHOWN
    needed = seeds_needed(difference.interval.estimate, sd, alpha)
    tested = permutation(first, second)
    return LevelDifference(
        level, verdict, _reasons(difference, tested, needed, alpha), values, difference, tested, sd, needed
    )


def _possible(found: ReplicateDifference) -> ReplicateDifference:
    """Accuracies are at most 1 apart, however far the interval of a few runs reaches."""
    interval = found.interval
    if not math.isfinite(interval.low):
        return found  # one run: there is no interval
    return replace(found, interval=replace(interval, low=max(-1.0, interval.low), high=min(1.0, interval.high)))


def _reasons(difference: ReplicateDifference, tested: Permutation, needed: int | None, alpha: float) -> tuple[str, ...]:
    found, p = difference.interval, difference.p
    relation = "contains 0" if found.low <= 0 <= found.high else "excludes 0"
    words = (
        f"the difference is {100 * found.estimate:+z.2f} points; its interval {100 * found.low:+z.2f} to"
        f" {100 * found.high:+z.2f} {relation} ({difference.runs[0]} and {difference.runs[1]} training seeds, Welch,"
        f" two-sided alpha {2 * alpha:.3g}, p {p:.3g})"
    )
    limit = f"exact permutation p {tested.p:.3g}, the least attainable is {tested.attainable:.3g}"
    if tested.attainable > 2 * alpha:
        limit += f": so few runs can never reach {2 * alpha:.3g} by permutation alone"
    if needed is None:
        outlook = "no affordable number of training seeds would settle a difference of this size"
    else:
        outlook = f"a true difference of this size needs about {needed} training seeds per arm (power 0.8)"
    return words, limit, outlook


def _accuracy(run: Arm, level: float) -> float:
    """Mean over items of the mean over noise seeds; what has no score counts as not right."""
    return float(np.mean([np.mean([cell.right for cell in cells.values()]) for cells in run.outcomes[level].values()]))


def _uneven(arms: Sequence[ReplicatedArm], level: float) -> tuple[str, ...]:
    """Runs with other items or other noise seeds than the first one, or with outcomes that were not measured."""
    runs = [each.run for arm in arms for each in arm.replicates]
    items, seeds = set(runs[0].outcomes[level]), seeds_of(runs[0].outcomes[level])
    for run in runs[1:]:
        if set(run.outcomes[level]) != items:
            return (f"{run.label} and {runs[0].label} do not have the same items at level {level:g}",)
        if seeds_of(run.outcomes[level]) != seeds:
            return (f"{run.label} and {runs[0].label} do not have the same noise seeds at level {level:g}",)
    for run in runs:
        lost = sum(not cell.measured for cells in run.outcomes[level].values() for cell in cells.values())
        if lost:
            return (f"{run.label} has {lost} outcomes at level {level:g} that were not measured",)
    return ()
