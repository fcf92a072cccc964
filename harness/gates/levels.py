"""One checkpoint against itself: a noisy level beside a reference level, item by item."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.gates.evidence import (
    certificate_problems,
    floor_of,
    shared_draws_note,
    shares_draws,
    turned_by_missing,
)
from harness.gates.pairing import Pairs, pair, seeds_of
from harness.gates.perplexity import refuse_continuous
from harness.gates.policy import check_alpha, check_fraction
from harness.gates.requirements import accuracy, difference, difference_requirement
from harness.gates.verdicts import INCONCLUSIVE, INVALID
from harness.record import Arm
from harness.stats import Interval


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reasons; ``items_needed`` is known for INCONCLUSIVE only."""

    verdict: str
    reasons: tuple[str, ...]
    items_needed: int | None = None


@dataclass(frozen=True)
class LevelComparison:
    """The paired difference accuracy(level) - accuracy(against) of one arm (fractions).

    ``n`` counts the items measured at both levels with every seed, ``total`` those that either level has.
    ``difference`` is ``None`` where there is none to compute; ``problems`` is what makes every verdict INVALID.
    """

    label: str
    level: float
    against: float
    n: int
    total: int
    difference: Interval | None
    problems: tuple[str, ...]
    alpha: float
    notes: tuple[str, ...]
    pairs: Pairs | None = field(repr=False, compare=False)

    def judge(self, limit: float) -> Judgement:
        """Return whether the drop stays within ``limit`` (fraction, in [0, 1)): verdict, reasons and items needed.

        Lower bound above -limit PASS, upper bound below it FAIL, else INCONCLUSIVE; INVALID with ``problems``
        or where unmeasured items could turn the verdict. Raises :class:`HarnessError` on another ``limit``.
        """
        check_fraction("limit", limit, 0.0, 1.0)
        if self.problems or self.pairs is None:
            return Judgement(INVALID, self.problems)
        part = difference_requirement(self.pairs, limit, self.alpha)
        turned = turned_by_missing(
            (self.pairs,), lambda given: difference_requirement(given[0], limit, self.alpha).verdict
        )
        if turned:
            return Judgement(INVALID, turned)
        reasons = (part.reason, *self.notes)
        return Judgement(part.verdict, reasons, part.needed if part.verdict == INCONCLUSIVE else None)

    def verdict_for(self, limit: float) -> str:
        """Return PASS, FAIL, INCONCLUSIVE or INVALID for a drop of at most ``limit`` (fraction)."""
        return self.judge(limit).verdict

    def reasons_for(self, limit: float) -> tuple[str, ...]:
        """Return the sentences behind :meth:`verdict_for`."""
        return self.judge(limit).reasons


def compare_levels(
    arm: Arm, level: float, against: float = 0.0, alpha: float = 0.05, floor: float | None = None
) -> LevelComparison:
    """Compare ``level`` with ``against`` within one arm, paired by item hash (fractions).

    One draw on both sides gives Tango's interval, otherwise per-item means over each side's seeds are paired.
    INVALID where the certificate speaks against either level, a level was not measured, or the accuracy at
    ``against`` has a lower bound below ``floor`` (default: the task's own, 0.10 at least). Raises
    :class:`HarnessError` on arguments out of range.
    """
    refuse_continuous(arm.key, arm.label)
    check_alpha(alpha)
    if floor is not None:
        check_fraction("floor", floor, 0.0, 1.0)
    floor = floor_of((arm,), floor)
    asked = dict.fromkeys((level, against))
    problems = [problem for each in asked for problem in certificate_problems(arm.label, arm, each)]
    problems += [f"{arm.label}: no outcomes at level {each:g}" for each in asked if not _present(arm, each)]
    if level == against:
        problems.append(f"level {level:g} is compared with itself, which shows nothing")
    shared = any(shares_draws(arm, each) for each in asked)
    complete = all(_present(arm, each) for each in asked)
    pairs = pair(arm.outcomes[level], arm.outcomes[against], shared, clusters=arm.clusters) if complete else None
    if pairs is not None and pairs.n == 0:
        problems.append(f"none of {pairs.total} items was measured at both levels")
    elif pairs is not None:
        problems += _floor(pairs, against, alpha, floor)
    return LevelComparison(
        label=arm.label,
        level=level,
        against=against,
        n=pairs.n if pairs else 0,
        total=pairs.total if pairs else 0,
        difference=difference(pairs, alpha) if pairs and pairs.n else None,
        problems=tuple(problems),
        alpha=alpha,
        notes=shared_draws_note(arm, level),
        pairs=pairs,
    )


def _present(arm: Arm, level: float) -> bool:
    cells = arm.outcomes.get(level)
    return bool(cells) and bool(seeds_of(cells or {}))


def _floor(pairs: Pairs, against: float, alpha: float, floor: float) -> list[str]:
    _, reference = pairs.means()
    low = accuracy(pairs, reference, alpha).low
    if low >= floor:
        return []
    return [
        f"the accuracy at level {against:g} is at the floor: its lower bound {100 * low:.2f} % on {pairs.n} items"
        f" is below {100 * floor:.2f} %, so nothing can be lost"
    ]
