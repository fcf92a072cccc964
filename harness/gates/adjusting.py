"""Verdicts of several levels after the p-values were adjusted for the policy's family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.gates.families import NAMES, Adjusted, judge_levels
from harness.gates.policy import GatePolicy
from harness.gates.requirements import Requirement
from harness.gates.result import LevelVerdict
from harness.gates.verdicts import FAIL, INCONCLUSIVE, INVALID

_Judged = tuple[str, Adjusted]
_BESIDE = "distributions"


def adjusted_levels(levels: tuple[LevelVerdict, ...], policy: GatePolicy) -> tuple[LevelVerdict, ...]:
    """Return ``levels`` judged alone -> judged as a family: :func:`adjusted_tasks` of one task."""
    return adjusted_tasks({"": levels}, policy)[""]


def adjusted_tasks(
    tasks: Mapping[str, tuple[LevelVerdict, ...]], policy: GatePolicy
) -> dict[str, tuple[LevelVerdict, ...]]:
    """Return task -> levels judged alone -> all levels of all tasks judged as one family: PASS as the policy's family
    says, FAIL by Holm in every family.

    A level that is INVALID by itself stays so and belongs to no family; one that stopped early keeps its verdict and
    counts among the alarms. An adjusted p is never smaller than its p, so that a PASS or FAIL can only become
    INCONCLUSIVE (INVALID where a requirement lacks evidence). Where the unmeasured outcomes of the family, all counted
    as lost or all as gained, would turn a level, it is INVALID. One requirement alone needs no adjustment.
    """
    return adjusted_beside(tasks, {}, policy)[0]


def adjusted_beside(
    tasks: Mapping[str, tuple[LevelVerdict, ...]], beside: Mapping[float, Requirement], policy: GatePolicy
) -> tuple[dict[str, tuple[LevelVerdict, ...]], dict[float, str]]:
    """Return the levels of :func:`adjusted_tasks` judged as one family with the requirements ``beside`` them (level ->
    requirement of another kind), and the verdicts on these."""
    levels = [(task, level) for task, own in tasks.items() for level in own]
    tests = {(task, level.level): level.tests for task, level in levels if level.tests is not None}
    early = sum(level.tests is None and level.verdict != INVALID for _, level in levels)
    alone = early + len(beside) + sum(len(own.measured) for own in tests.values()) == 1
    if not (tests or beside) or (alone and policy.family not in NAMES):
        return dict(tasks), {level: requirement.verdict for level, requirement in beside.items()}
    alpha = policy.alpha_left or policy.alpha
    others = {(_BESIDE, level): (requirement,) for level, requirement in beside.items()}
    measured, lost, gained = (
        judge_levels(policy.family, {key: getattr(own, case) for key, own in tests.items()} | others, alpha, early)
        for case in ("measured", "lost", "gained")
    )

    def judged(task: str, level: LevelVerdict) -> LevelVerdict:
        key = task, level.level
        if key not in tests:
            return level
        return _adjusted(level, measured[key], {"lost": lost[key], "gained": gained[key]})

    found = {task: tuple(judged(task, level) for level in own) for task, own in tasks.items()}
    return found, {level: measured[_BESIDE, level][0] for level in beside}


def _adjusted(alone: LevelVerdict, measured: _Judged, cases: Mapping[str, _Judged]) -> LevelVerdict:
    verdict, found = measured
    words: tuple[str, ...] = ()
    if found.family in NAMES or FAIL in (verdict, alone.verdict):
        words = (found.sentence,)
    if verdict != alone.verdict:
        words = (f"taken alone this level would {alone.verdict}, adjusted it is {verdict}", *words)
    turned = tuple(
        f"counted as {case}, the outcomes of this family that were not measured would turn {verdict} into"
        f" {judged[0]}, adjusted by {NAMES.get(found.family, 'Holm')}"
        for case, judged in cases.items()
        if judged[0] != verdict
    )
    needed = alone.items_needed if verdict == alone.verdict == INCONCLUSIVE else None
    return replace(
        alone,
        verdict=INVALID if turned else verdict,
        reasons=(*turned, *words, *alone.reasons),
        items_needed=None if turned else needed,
        adjusted=found,
    )
