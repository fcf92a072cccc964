"""A gate on distributions: how far a candidate's next tokens lie from a reference's, on the reference's own answers.

At each noise level both sides had the same draws of noise. The mean over items of each item's mean divergence must lie
below a margin in nats, by a one-sided bound that holds for values with a long tail (:mod:`harness.stats.skewed`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.distributions import Distribution, Divergence, divergence
from harness.exceptions import HarnessError
from harness.gates.evidence import certificate_problems, control_problems, shares_draws
from harness.gates.families import judge_levels
from harness.gates.keys import axis_note, key_differences
from harness.gates.policy import ALL_MUST_PASS, AXES, GatePolicy, PerLevel, check_alpha, check_nats
from harness.gates.requirements import Requirement
from harness.gates.verdicts import FAIL, INCONCLUSIVE, INVALID, PASS, exit_code, worst
from harness.record import Arm
from harness.stats import Interval, ScoreRange, SkewedMean, continuous_mean
from harness.stats.skewed import LEAST_UNITS
from harness.text import nearest
from harness.thresholds import ALPHA

Place = tuple[str, float, int]
"""(item, level, noise seed) of an answer."""

LEAST_ITEMS = LEAST_UNITS
"""The fewest items for a PASS."""

SHORT_SHARE = 0.1
"""The share of the margin that what is not kept may hide at most; beyond it a PASS would rest on what nobody looked
at."""


@dataclass(frozen=True)
class Measured:
    """One side: its arm, what it kept of every place, and the log-probability (nats) of every scored token. ``answers``
    are the digests (:func:`harness.record.digests_of`) of what was scored, by item; none where it is not known."""

    arm: Arm
    kept: Mapping[Place, Distribution]
    logprobs: Mapping[Place, Sequence[float | None]]
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class DivergencePolicy:
    """The rules: the largest accepted mean divergence ``margin`` (nats a token), the one-sided ``alpha``, and
    ``across``, the one field of the measurement key (of :data:`harness.gates.policy.AXES`) in which both sides are
    meant to differ. ``margins`` holds (level, margin) where a level has its own; ``positive_control``: whether both
    sides must have run theirs.

    Raises :class:`HarnessError` for values out of range.
    """

    margin: float
    alpha: float = ALPHA
    across: str | None = None
    margins: PerLevel = ()
    positive_control: bool = True

    def __post_init__(self) -> None:
        """Check every value."""
        for margin in (self.margin, *(value for _, value in self.margins)):
            check_nats("--kl-margin", margin)
        check_alpha(self.alpha)
        if self.across is not None and self.across not in AXES:
            raise HarnessError(f"across {self.across!r}", nearest(self.across, AXES))

    @classmethod
    def of(cls, policy: GatePolicy) -> DivergencePolicy:
        """Return the rules on distributions of a ``policy`` that has some: its bounds are at what early stopping leaves
        of alpha."""
        assert policy.kl_margin is not None
        return cls(policy.kl_margin, policy.alpha_left, policy.across, policy.kl_margins, policy.positive_control)

    def margin_at(self, level: float) -> float:
        """Return the margin at ``level`` (nats a token)."""
        return dict(self.margins).get(level, self.margin)


@dataclass(frozen=True)
class LevelDivergence:
    """The verdict at one noise level; divergences in nats a token, ``same`` a fraction of the places.

    ``divergence`` is the mean over items with its one-sided bounds, ``skewness`` that of the items' means; ``short``
    the most that the tokens which were not kept can add to the mean; ``change`` the mean of log-probability (candidate
    less reference) of the scored token, ``same`` of how often both find the same token most probable, each with bounds.
    """

    level: float
    verdict: str
    reasons: tuple[str, ...]
    items: int = 0
    tokens: int = 0
    seeds: tuple[int, ...] = ()
    divergence: Interval | None = None
    skewness: float | None = None
    short: float | None = None
    change: Interval | None = None
    same: Interval | None = None
    p_pass: float | None = None
    p_fail: float | None = None
    requirement: Requirement | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        intervals = {name: getattr(self, name) for name in ("divergence", "change", "same")}
        return {
            "level": self.level,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "items": self.items,
            "tokens": self.tokens,
            "seeds": list(self.seeds),
            **{name: None if found is None else found.to_json() for name, found in intervals.items()},
            **{name: _finite(getattr(self, name)) for name in ("skewness", "short", "p_pass", "p_fail")},
        }


@dataclass(frozen=True)
class DivergenceResult:
    """The verdict over all levels, one :class:`LevelDivergence` each, ascending."""

    verdict: str
    levels: tuple[LevelDivergence, ...]
    policy: DivergencePolicy
    labels: tuple[str, str]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """PASS 0, FAIL 1, INCONCLUSIVE 3, INVALID 4."""
        return exit_code(self.verdict)

    @property
    def family(self) -> str:
        """What stands beside a verdict over several levels."""
        return (
            "all levels must pass, each for itself; alarms are adjusted by Holm;"
            f" alpha {self.policy.alpha:g} one-sided, for each PASS and for any FAIL"
        )

    def to_json(self) -> dict[str, Any]:
        """Return one object for strict JSON."""
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "margin": self.policy.margin,
            **({"margins": [list(pair) for pair in self.policy.margins]} if self.policy.margins else {}),
            "alpha": self.policy.alpha,
            "family": self.family,
            "candidate": self.labels[0],
            "reference": self.labels[1],
            "notes": list(self.notes),
            "levels": [level.to_json() for level in self.levels],
        }


def divergence_gate(candidate: Measured, reference: Measured, policy: DivergencePolicy) -> DivergenceResult:
    """Judge ``candidate`` against ``reference`` at every level of the reference.

    Upper bound of the mean divergence below the margin PASS (from :data:`LEAST_ITEMS` items on), lower bound above it
    FAIL, else INCONCLUSIVE; all levels must pass, and a FAIL is adjusted by Holm over the levels. INVALID where the
    measurement keys differ (but along ``across``), where a certificate speaks against a level or a positive control is
    missing, where the two sides have other answers, seeds or kept tokens, and where what was not kept could hide more
    than a tenth of the margin of a PASS.
    """
    alone = levels_alone(candidate, reference, policy, sorted(reference.arm.outcomes))
    tested = {level.level: (level.requirement,) for level in alone if level.requirement is not None}
    judged = judge_levels(ALL_MUST_PASS, tested, policy.alpha) if tested else {}
    adjusted = adjusted_divergences(alone, {level: verdict for level, (verdict, _) in judged.items()})
    return divergence_result(candidate, reference, policy, adjusted)


def levels_alone(
    candidate: Measured,
    reference: Measured,
    policy: DivergencePolicy,
    levels: Sequence[float],
    objections: Sequence[str] = (),
) -> tuple[LevelDivergence, ...]:
    """Return each of ``levels`` judged by itself, as :func:`divergence_gate` does first; ``objections`` speak against
    all of them."""
    differing = (*objections, *key_differences(candidate.arm.key, reference.arm.key, policy.across))
    return tuple(_level(candidate, reference, level, policy, differing) for level in levels)


def adjusted_divergences(alone: Sequence[LevelDivergence], judged: Mapping[float, str]) -> tuple[LevelDivergence, ...]:
    """Return the levels ``alone`` with the verdicts that a family has ``judged`` (level -> verdict)."""
    return tuple(_adjusted(level, judged.get(level.level, level.verdict)) for level in alone)


def divergence_result(
    candidate: Measured, reference: Measured, policy: DivergencePolicy, levels: Sequence[LevelDivergence]
) -> DivergenceResult:
    """Return the verdict over ``levels``, as their family has left them."""
    arms = candidate.arm, reference.arm
    notes = (*axis_note(arms[0].key, arms[1].key, policy.across), *_same_weights(*arms))
    labels = arms[0].label, arms[1].label
    return DivergenceResult(worst(level.verdict for level in levels), tuple(levels), policy, labels, notes)


def _same_weights(candidate: Arm, reference: Arm) -> tuple[str, ...]:
    weights = candidate.origin.weights
    if not weights or weights != reference.origin.weights:
        return ()
    return ("both sides have the same weights: a difference is one of how they were run",)


def _level(
    candidate: Measured, reference: Measured, level: float, policy: DivergencePolicy, differing: tuple[str, ...]
) -> LevelDivergence:
    objections = list(differing)
    for role, side in (("candidate", candidate), ("reference", reference)):
        objections += certificate_problems(role, side.arm, level)
        objections += control_problems(role, side.arm, policy.positive_control)
    ours, theirs = (
        {name: kept for name, kept in side.kept.items() if name[1] == level} for side in (candidate, reference)
    )
    if not theirs:
        objections.append("the reference has no distributions at this level")
    elif set(ours) != set(theirs):
        objections.append(
            f"the candidate lacks {len(set(theirs) - set(ours))} of the reference's {len(theirs)} answers, and has"
            f" {len(set(ours) - set(theirs))} others"
        )
    if shares_draws(candidate.arm, level) or shares_draws(reference.arm, level):
        objections.append("all items share the draws of a noise seed, so that items are no independent sample")
    if objections:
        return LevelDivergence(level, INVALID, tuple(dict.fromkeys(objections)))
    found: dict[Place, Divergence] = {}
    for name, kept in theirs.items():
        try:
            found[name] = divergence(kept, ours[name])
        except ValueError as error:
            return LevelDivergence(level, INVALID, (f"item {name[0]}, seed {name[2]}: {error}",))
    return _measured(candidate, reference, level, policy, found)


def _measured(
    candidate: Measured,
    reference: Measured,
    level: float,
    policy: DivergencePolicy,
    found: Mapping[Place, Divergence],
) -> LevelDivergence:
    items = sorted({item for item, _, _ in found})
    changes = {name: _changes(candidate, reference, name) for name in found}
    if any(value is None for value in changes.values()) or not all(np.isfinite(d.kl).all() for d in found.values()):
        return LevelDivergence(level, INVALID, ("a log-probability is not finite, so that nothing can be averaged",))

    def means(value: Mapping[Place, float]) -> list[float]:
        return [float(np.mean([number for name, number in value.items() if name[0] == item])) for item in items]

    clusters = _clusters(candidate.arm, items)
    divergences = SkewedMean.of(means({name: float(each.kl.mean()) for name, each in found.items()}), clusters)
    short = float(np.mean(means({name: float(each.short.mean()) for name, each in found.items()})))
    requirement = _requirement(divergences, short, policy, (level, len(items)))
    same = means({name: float(each.same.mean()) for name, each in found.items()})
    change = means({name: float(value) for name, value in changes.items() if value is not None})
    return LevelDivergence(
        level,
        requirement.verdict,
        (requirement.reason,),
        len(items),
        sum(len(each.kl) for each in found.values()),
        tuple(sorted({seed for _, _, seed in found})),
        divergences.interval(policy.alpha),
        divergences.skewness,
        short,
        SkewedMean.of(change, clusters).interval(policy.alpha),
        continuous_mean(same, policy.alpha, ScoreRange(0.0, 1.0)),
        requirement.p_pass,
        requirement.p_fail,
        requirement if requirement.verdict != INVALID else None,
    )


def _changes(candidate: Measured, reference: Measured, name: Place) -> float | None:
    """The mean change of log-probability of the scored tokens of one answer; None where one is not finite."""
    ours, theirs = candidate.logprobs.get(name, ()), reference.logprobs.get(name, ())
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if a is not None and b is not None]
    if not pairs or len(pairs) != max(len(ours), len(theirs)):
        return None
    return float(np.mean([a - b for a, b in pairs]))


def _clusters(arm: Arm, items: Sequence[str]) -> list[str] | None:
    """The cluster of every item, None where each stands by itself."""
    return [arm.clusters.get(item, f"item {item}") for item in items] if arm.clusters else None


def _requirement(mean: SkewedMean, short: float, policy: DivergencePolicy, of: tuple[float, int]) -> Requirement:
    """The requirement on a mean ``of`` so many items at a level: (level, items)."""
    margin, items = policy.margin_at(of[0]), of[1]
    interval, tails = mean.interval(policy.alpha), mean.tails(margin)
    verdict = PASS if interval.high < margin else FAIL if interval.low > margin else INCONCLUSIVE
    relation = {PASS: "lies below", FAIL: "lies above", INCONCLUSIVE: "contains"}[verdict]
    words = (
        f"the mean divergence is {mean.estimate:.4g} nats a token; its interval {interval.low:.4g} to"
        f" {interval.high:.4g} {relation} the margin {margin:g} (one-sided alpha {policy.alpha:g}), on {items} items"
    )
    if verdict == PASS and items < LEAST_ITEMS:
        words = f"{items} items show too little of the tail of their divergences, {LEAST_ITEMS} may PASS; {words}"
        return Requirement(INCONCLUSIVE, words, LEAST_ITEMS, False, 1.0, tails.above)
    if verdict == PASS and short > SHORT_SHARE * margin:
        return Requirement(
            INVALID,
            f"tokens that were not kept can hide {short:.2g} nats a token, more than a tenth of the margin {margin:g}:"
            f" record it with more of each place (--top), or widen the margin; {words}",
        )
    if mean.tail > 0:
        words += (
            f"; few items hold much of it (skewness {mean.skewness:.1f}), so that the upper bound is taken at a tenth"
            f" of alpha (below about {mean.items_needed} items of this kind)"
        )
    needed = mean.items_needed if verdict == INCONCLUSIVE and mean.tail > 0 else None
    return Requirement(verdict, words, needed, mean.estimate > margin, tails.below, tails.above)


def _adjusted(level: LevelDivergence, verdict: str) -> LevelDivergence:
    if verdict == level.verdict:
        return level
    words = f"taken alone this level would {level.verdict}, adjusted over all levels it is {verdict}"
    return replace(level, verdict=verdict, reasons=(words, *level.reasons))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
