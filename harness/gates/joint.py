"""Answers and distributions judged together: one policy, one family of hypotheses, the worse verdict of both halves.

PASS claims that neither the answers nor the distributions moved by more than their margins, so that both halves must
PASS, each at alpha (an intersection-union test: Berger 1982, Technometrics 24, 295-300). A FAIL of either fails the
whole, so that alarms are adjusted by Holm over the requirements of both. With early stopping the distributions, which
are cheap, are looked at once and first, at what looking early leaves of alpha: where they FAIL with every alarm of the
answers counted as p = 1, Holm rejects whatever those turn out to be (its rejections only grow as other p-values fall),
so that no answer need be generated and no alpha is spent on having looked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.gates.adjusting import adjusted_beside
from harness.gates.divergence import (
    DivergencePolicy,
    DivergenceResult,
    LevelDivergence,
    Measured,
    adjusted_divergences,
    divergence_result,
    levels_alone,
)
from harness.gates.families import judge_levels
from harness.gates.judge import judged_alone
from harness.gates.origin import explained_by_ties
from harness.gates.policy import GatePolicy
from harness.gates.requirements import Requirement
from harness.gates.result import ANSWERS, DISTRIBUTIONS, NOT_RUN, GateResult
from harness.gates.verdicts import FAIL, worst
from harness.record import Arm

COMPUTED = ("aqn", "attention", "coverage", "dtype", "engine", "noise", "quantization")
"""Fields of the measurement key that say how the model computes: the same in both halves of a side."""


@dataclass(frozen=True)
class Sides:
    """The distributions of candidate and reference."""

    candidate: Measured
    reference: Measured


def gate_both(answers: tuple[Arm, Arm], distributions: Sides, policy: GatePolicy, order_seed: int = 0) -> GateResult:
    """Judge the ``answers`` (candidate and baseline) as :func:`harness.gates.judge.gate` does, their ``distributions``
    as :func:`harness.gates.divergence.divergence_gate` does, at the same levels, and both as one family.

    The distributions are INVALID at a level of which the reference has none, and everywhere where a side's halves are
    not of one checkpoint, computed alike, or the reference has items that the baseline lacks.
    """
    alone = judged_alone(*answers, policy.on_answers, order_seed)
    policy.check_judged(level.level for level in alone.levels)
    lying = _lying(answers, distributions, policy, [level.level for level in alone.levels])
    judged, verdicts = adjusted_beside({"": alone.levels}, _requirements(lying), policy)
    own = alone.result(judged[""])
    half = _half(distributions, policy, adjusted_divergences(lying, verdicts))
    requirements = sum(len(level.tests.measured) for level in alone.levels if level.tests)
    family = family_text(len(own.levels), len(half.levels), requirements, policy)
    found = replace(own, verdict=worst((own.verdict, half.verdict)), family=family, divergence=half)
    return replace(found, reasons=(decided(found), *found.reasons), notes=(*found.notes, *half.notes))


def decided_alone(baseline: Arm, distributions: Sides, policy: GatePolicy) -> GateResult | None:
    """Return FAIL where the ``distributions`` decide whatever the answers are, None where answers are needed.

    Only a policy with early stopping may ask.
    """
    levels = sorted(policy.levels or baseline.outcomes)
    policy.check_judged(levels)
    lying = _lying((None, baseline), distributions, policy, levels)
    tests = {level: (requirement,) for level, requirement in _requirements(lying).items()}
    if not tests:
        return None
    judged = judge_levels(policy.family, tests, policy.alpha_left, len(levels))
    verdicts = {level: verdict for level, (verdict, _) in judged.items()}
    half = _half(distributions, policy, adjusted_divergences(lying, verdicts))
    if half.verdict != FAIL:
        return None
    arm = distributions.candidate.arm
    found = GateResult(
        verdict=FAIL,
        reasons=(),
        levels=(),
        family=family_text(len(levels), len(half.levels), len(levels), policy),
        certificate=arm.certificate,
        baseline={"label": baseline.label, "status": baseline.certificate.status, "key": dict(baseline.key)},
        inconclusive=policy.inconclusive,
        notes=(_unasked(len(levels)), *half.notes),
        alphas=(policy.alpha, policy.alpha_left),
        divergence=half,
    )
    return replace(found, reasons=(decided(found),))


def decided(found: GateResult) -> str:
    """Return which half has the verdict, in one sentence."""
    halves = found.halves
    deciding = [name for name, verdict in halves.items() if verdict == found.verdict]
    which = "both halves" if len(deciding) == 2 else f"the {deciding[0]}"
    words = ", ".join(f"{name} {verdict}" for name, verdict in halves.items())
    return f"over answers and distributions {found.verdict}, decided by {which} ({words})"


def family_text(levels: int, distributions: int, requirements: int, policy: GatePolicy) -> str:
    """Return what stands beside a verdict over both halves: which hypotheses, how many, which correction."""
    left = f"; of it {policy.alpha_left:g} for the distributions" if policy.early_stop else ""
    return (
        f"one family over {ANSWERS} at {levels} levels and {DISTRIBUTIONS} at {distributions}:"
        f" {requirements + distributions} requirements, each a hypothesis; both halves must pass; {policy.family_text}"
        f"{left}"
    )


def _unasked(levels: int) -> str:
    return (
        f"early stopping: the distributions FAIL with the {levels} alarms of the answers counted as p = 1, which no"
        f" answer can change, so that none was generated ({ANSWERS}: {NOT_RUN})"
    )


def _lying(
    answers: tuple[Arm | None, Arm], distributions: Sides, policy: GatePolicy, levels: Sequence[float]
) -> tuple[LevelDivergence, ...]:
    """How far the distributions lie apart, each level by itself."""
    candidate, baseline = answers
    sides = distributions.candidate, distributions.reference
    apart = [*_apart("baseline", baseline, sides[1].arm), *_other_items(baseline, sides[1].arm)]
    apart += _other_answers(baseline, sides[1])
    if candidate is not None:
        apart += _apart("candidate", candidate, sides[0].arm)
    return levels_alone(*sides, DivergencePolicy.of(policy), levels, apart)


def _half(distributions: Sides, policy: GatePolicy, levels: Sequence[LevelDivergence]) -> DivergenceResult:
    return divergence_result(distributions.candidate, distributions.reference, DivergencePolicy.of(policy), levels)


def _requirements(levels: Sequence[LevelDivergence]) -> dict[float, Requirement]:
    return {level.level: level.requirement for level in levels if level.requirement is not None}


def _apart(role: str, answers: Arm, distributions: Arm) -> list[str]:
    """What says that the two halves of one side are not of one checkpoint, computed alike."""
    found = []
    for what in ("weights", "settings"):
        ours, theirs = getattr(answers.origin, what), getattr(distributions.origin, what)
        if not ours or ours != theirs:
            found.append(
                f"{role}: its answers and its distributions are not known to be of one checkpoint ({what}"
                f" {ours[:16] or 'unknown'} and {theirs[:16] or 'unknown'})"
            )
    for name in COMPUTED:
        pair = answers.key.get(name), distributions.key.get(name)
        if pair[0] != pair[1]:
            found.append(f"{role}: its answers and its distributions differ in {name}: {pair[0]!r} and {pair[1]!r}")
    return found


def _other_items(baseline: Arm, reference: Arm) -> list[str]:
    """What says that the reference's answers are no answers to the baseline's items."""
    known = {item for cells in baseline.outcomes.values() for item in cells}
    others = {item for cells in reference.outcomes.values() for item in cells} - known
    if not others:
        return []
    return [f"the reference has answers to {len(others)} items that the baseline does not have"]


def _other_answers(baseline: Arm, reference: Measured) -> list[str]:
    """What says that the texts of the reference are not what the baseline answered: another prompt, say, or a file of
    one's own. Baselines that were written before answers were told apart know nothing of it."""
    first = {item: row[0] for item, row in baseline.origin.answers.get(0.0, {}).items() if 0 in row}
    known = [(first[item], digests) for item, digests in reference.answers.items() if item in first]
    others, allowed = sum(own not in digests for own, digests in known), explained_by_ties(len(known), baseline.key)
    if others <= allowed:
        return []
    return [
        f"the reference is not of the baseline's answers: {others} of {len(known)} differ, near ties explain at most"
        f" {allowed}"
    ]
