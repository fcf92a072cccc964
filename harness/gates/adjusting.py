"""Verdicts of several levels after the p-values were adjusted for the policy's family."""

from __future__ import annotations

from dataclasses import replace

from harness.gates.families import NAMES, Adjusted, judge_levels
from harness.gates.policy import GatePolicy
from harness.gates.result import LevelVerdict
from harness.gates.verdicts import FAIL, INCONCLUSIVE, INVALID

_Judged = dict[float, tuple[str, Adjusted]]


def adjusted_levels(levels: tuple[LevelVerdict, ...], policy: GatePolicy) -> tuple[LevelVerdict, ...]:
    """Return ``levels`` judged alone -> judged as a family: PASS as the policy's family says, FAIL by Holm in every
    family.

    A level that is INVALID by itself stays so and belongs to no family; one that stopped early keeps its verdict and
    counts among the alarms. An adjusted p is never smaller than its p, so that a PASS or FAIL can only become
    INCONCLUSIVE (INVALID where a requirement lacks evidence). Where the unmeasured outcomes of the family, all counted
    as lost or all as gained, would turn a level, it is INVALID. One requirement alone needs no adjustment.
    """
    tests = {level.level: level.tests for level in levels if level.tests is not None}
    early = sum(level.tests is None and level.verdict != INVALID for level in levels)
    alone = early + sum(len(own.measured) for own in tests.values()) == 1
    if not tests or (alone and policy.family not in NAMES):
        return levels
    alpha = policy.alpha_left or policy.alpha
    measured, lost, gained = (
        judge_levels(policy.family, {level: getattr(own, case) for level, own in tests.items()}, alpha, early)
        for case in ("measured", "lost", "gained")
    )
    return tuple(
        _adjusted(level, measured, {"lost": lost, "gained": gained}) if level.level in tests else level
        for level in levels
    )


def _adjusted(alone: LevelVerdict, measured: _Judged, cases: dict[str, _Judged]) -> LevelVerdict:
    verdict, found = measured[alone.level]
    words: tuple[str, ...] = ()
    if found.family in NAMES or FAIL in (verdict, alone.verdict):
        words = (found.sentence,)
    if verdict != alone.verdict:
        words = (f"taken alone this level would {alone.verdict}, adjusted it is {verdict}", *words)
    turned = tuple(
        f"counted as {case}, the outcomes of this family that were not measured would turn {verdict} into"
        f" {judged[alone.level][0]}, adjusted by {NAMES.get(found.family, 'Holm')}"
        for case, judged in cases.items()
        if judged[alone.level][0] != verdict
    )
    needed = alone.items_needed if verdict == alone.verdict == INCONCLUSIVE else None
    return replace(
        alone,
        verdict=INVALID if turned else verdict,
        reasons=(*turned, *words, *alone.reasons),
        items_needed=None if turned else needed,
        adjusted=found,
    )
