"""The levels of a gate as one family of hypotheses: which of them PASS or FAIL once many are looked at.

A level PASSes if every requirement is met, so its p for PASS is the largest of theirs (an intersection-union test:
Berger 1982, Technometrics 24, 295-300), and the levels are adjusted by the policy's family. A level FAILs if any
requirement is missed, so every requirement of every level is an alarm of its own; alarms are adjusted by Holm in every
family, because a FAIL at any level fails the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.gates.pairing import Pairs
from harness.gates.policy import ALL_MUST_PASS, BENJAMINI_HOCHBERG, FIXED_SEQUENCE, HOLM
from harness.gates.requirements import Requirement
from harness.gates.verdicts import FAIL, INCONCLUSIVE, INVALID, PASS
from harness.stats import multiplicity

Key = TypeVar("Key", bound=Hashable)
KINDS: Mapping[str, str | None] = {
    FIXED_SEQUENCE: None,
    ALL_MUST_PASS: None,
    HOLM: multiplicity.HOLM,
    BENJAMINI_HOCHBERG: multiplicity.BENJAMINI_HOCHBERG,
}
"""Family of a policy -> how p-values for PASS are adjusted in :mod:`harness.stats`, ``None``: not at all."""

NAMES = {HOLM: "Holm", BENJAMINI_HOCHBERG: "Benjamini-Hochberg"}


@dataclass(frozen=True)
class Tests:
    """The requirements of one level: as measured, and with every unmeasured outcome counted as lost or as gained."""

    measured: tuple[Requirement, ...]
    lost: tuple[Requirement, ...]
    gained: tuple[Requirement, ...]

    @classmethod
    def of(cls, pairings: Sequence[Pairs], requirements: Callable[[Sequence[Pairs]], tuple[Requirement, ...]]) -> Tests:
        """Return the verdicts from the pairings that gate; ``requirements`` judges them."""
        measured = requirements(pairings)
        if all(pairs.n == pairs.total for pairs in pairings):
            return cls(measured, measured, measured)
        lost, gained = (requirements([pairs.filled(*ends) for pairs in pairings]) for ends in ((0.0, 1.0), (1.0, 0.0)))
        return cls(measured, lost, gained)


@dataclass(frozen=True)
class Adjusted:
    """One-sided p-values of one level before and after its family.

    ``levels`` hypotheses were adjusted together for PASS, ``requirements`` for FAIL, the latter by Holm. ``p_fail`` is
    the smallest of the level's requirements.
    """

    family: str
    levels: int
    requirements: int
    p_pass: float
    adjusted_pass: float
    p_fail: float
    adjusted_fail: float

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON; the family and that of the alarms are named."""
        return {
            "family": self.family,
            "alarms": HOLM,
            "pass": {"p": self.p_pass, "adjusted": self.adjusted_pass, "hypotheses": self.levels},
            "fail": {"p": self.p_fail, "adjusted": self.adjusted_fail, "hypotheses": self.requirements},
        }

    @property
    def sentence(self) -> str:
        """Both p-values with the family, for reasons."""
        alarms = (
            f"alarms are adjusted by Holm over {self.requirements} requirements: p for FAIL {self.p_fail:.3g}, adjusted"
            f" {self.adjusted_fail:.3g}"
        )
        if self.family not in NAMES:
            return alarms
        return (
            f"p for PASS {self.p_pass:.3g}, adjusted {self.adjusted_pass:.3g} by {NAMES[self.family]} over"
            f" {self.levels} levels; {alarms}"
        )


def judge_levels(
    family: str, requirements: Mapping[Key, Sequence[Requirement]], alpha: float, others: int = 0
) -> dict[Key, tuple[str, Adjusted]]:
    """Return level -> (verdict, p-values) of ``requirements`` as one of :data:`KINDS`, one-sided ``alpha``.

    A level is named by its strength, or by task and strength where several tasks are one family.
    ``others`` counts alarms that were decided elsewhere (levels that stopped early): they count, with p = 1.
    A requirement without evidence (INVALID) counts with p = 1 for PASS and raises no alarm; unless another one FAILs
    its level is INVALID.
    """
    passing = {f"{level!r}": max(requirement.p_pass for requirement in own) for level, own in requirements.items()}
    alarms = {
        f"{level!r} {index}": requirement.p_fail
        for level, own in requirements.items()
        for index, requirement in enumerate(own)
        if requirement.verdict != INVALID
    }
    alarms |= {f"early {index}": 1.0 for index in range(others)}
    kind = KINDS[family]
    adjusted_pass = passing if kind is None else multiplicity.judge_family(kind, passing, alpha).adjusted
    alarmed = multiplicity.judge_family(multiplicity.HOLM, alarms, alpha)
    found = {}
    for level, own in requirements.items():
        names = [f"{level!r} {index}" for index, requirement in enumerate(own) if requirement.verdict != INVALID]
        name = f"{level!r}"
        adjusted = Adjusted(
            family,
            len(passing),
            len(alarms),
            passing[name],
            adjusted_pass[name],
            min((alarms[each] for each in names), default=1.0),
            min((alarmed.adjusted[each] for each in names), default=1.0),
        )
        found[level] = _verdict(own, adjusted, alpha), adjusted
    return found


def _verdict(requirements: Sequence[Requirement], adjusted: Adjusted, alpha: float) -> str:
    if adjusted.adjusted_fail <= alpha:
        return FAIL
    if any(requirement.verdict == INVALID for requirement in requirements):
        return INVALID
    return PASS if adjusted.adjusted_pass <= alpha else INCONCLUSIVE
