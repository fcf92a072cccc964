"""Verdicts of several levels after the p-values were adjusted for the policy's family."""

from __future__ import annotations

from dataclasses import replace

from harness.gates.families import KINDS, NAMES, Adjusted, judge_levels
from harness.gates.policy import GatePolicy
from harness.gates.result import LevelVerdict
from harness.gates.verdicts import INCONCLUSIVE, INVALID

_Judged = dict[float, tuple[str, Adjusted]]


def adjusted_levels(levels: tuple[LevelVerdict, ...], policy: GatePolicy) -> tuple[LevelVerdict, ...]:
    """``levels`` judged alone -> judged as a family of :data:`harness.gates.families.KINDS`; others as they are.

    A level that is INVALID by itself stays so and belongs to no family. An adjusted p is never smaller than its p, so
    that a PASS or FAIL can only become INCONCLUSIVE (INVALID where a requirement lacks evidence). Where the unmeasured
    outcomes of the family, all counted as lost or all as gained, would turn a level, it is INVALID.
    """
    tests = {level.level: level.tests for level in levels if level.tests is not None}
    if policy.family not in KINDS or not tests:
        return levels
    measured, lost, gained = (
        judge_levels(policy.family, {level: getattr(own, case) for level, own in tests.items()}, policy.alpha)
        for case in ("measured", "lost", "gained")
    )
    return tuple(
        _adjusted(level, measured, {"lost": lost, "gained": gained}) if level.level in tests else level
        for level in levels
    )


def _adjusted(alone: LevelVerdict, measured: _Judged, cases: dict[str, _Judged]) -> LevelVerdict:
    verdict, found = measured[alone.level]
    words: tuple[str, ...] = (found.sentence,)
    if verdict != alone.verdict:
        words = (f"taken alone this level would {alone.verdict}, adjusted it is {verdict}", *words)
    turned = tuple(
        f"counted as {case}, the outcomes of this family that were not measured would turn {verdict} into"
        f" {judged[alone.level][0]}, adjusted by {NAMES[found.family]}"
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
