"""One requirement each: the interval, what it says about its bound, and the items that would decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.gates.bounds import accuracy_interval, difference_test, over_seeds, retention_test
from harness.gates.pairing import Floats, Pairs
from harness.gates.verdicts import FAIL, INCONCLUSIVE, INVALID, PASS
from harness.stats import LEAST_SEEDS, MAX_ITEMS, Interval, Tails
from harness.stats.paired_tests import PairedTest


@dataclass(frozen=True)
class Requirement:
    """What one requirement says. ``falling``: the estimate lies below the bound, so more items would FAIL it.

    ``p_pass`` is the p of "it is not met", ``p_fail`` of "it is met", one-sided, by the test of the interval: at most
    alpha exactly where the verdict is PASS, or FAIL. 1 where there is no evidence.
    """

    verdict: str
    reason: str
    needed: int | None = None
    falling: bool = False
    p_pass: float = 1.0
    p_fail: float = 1.0


def combined(requirements: Sequence[Requirement]) -> str:
    """Return the verdict of which all must PASS; one FAIL decides, also where another requirement has no evidence."""
    verdicts = {requirement.verdict for requirement in requirements}
    return next(verdict for verdict in (FAIL, INVALID, INCONCLUSIVE, PASS) if verdict in verdicts)


def combined_items(requirements: Sequence[Requirement]) -> int | None:
    """Return the items that would decide: the first to FAIL, else the last to PASS; ``None`` where unknown."""
    undecided = [requirement for requirement in requirements if requirement.verdict == INCONCLUSIVE]
    failing = [
        requirement.needed for requirement in undecided if requirement.falling and requirement.needed is not None
    ]
    if failing:
        return min(failing)
    needed = [requirement.needed for requirement in undecided]
    known = [count for count in needed if count is not None]
    return max(known) if known and len(known) == len(needed) else None


def accuracy(pairs: Pairs, values: Floats, alpha: float) -> Interval:
    """Return accuracy (fraction) of one side's per-item means ``values`` of ``pairs``."""
    return accuracy_interval(values, pairs.binary, alpha, pairs.groups)


def difference(pairs: Pairs, alpha: float) -> Interval:
    """Return the mean of first - second over measured pairs, by the interval that :mod:`harness.gates.bounds`
    chooses."""
    found = difference_test(pairs).interval(alpha)
    assert found is not None
    return found


def retention(pairs: Pairs, alpha: float, floor: float) -> Interval | None:
    """Return acc(noisy) / acc(clean); ``None`` where the clean accuracy's lower bound is below ``floor``."""
    if pairs.n == 0 or accuracy(pairs, pairs.means()[1], alpha).low < floor:
        return None
    return retention_test(pairs).interval(alpha)


def _decide(interval: Interval, bound: float, closed: bool) -> str:
    """PASS above the bound, FAIL below it, else INCONCLUSIVE. ``closed``: the bound itself is accepted."""
    if interval.low > bound or (closed and interval.low == bound):
        return PASS
    return FAIL if interval.high < bound else INCONCLUSIVE


def _p_values(tails: Tails, verdict: str, alpha: float) -> tuple[float, float]:
    """(p_pass, p_fail); where rounding sets p and interval apart, the interval has the last word."""
    beyond = math.nextafter(alpha, 1.0)
    passing = min(tails.above, alpha) if verdict == PASS else max(tails.above, beyond)
    return passing, min(tails.below, alpha) if verdict == FAIL else max(tails.below, beyond)


_RELATION = {PASS: "lies above", FAIL: "lies below", INCONCLUSIVE: "contains"}


def _outlook(verdict: str, needed: int | None, pairs: Pairs) -> str:
    if verdict != INCONCLUSIVE:
        return ""
    if pairs.crossed:
        return "; noise seeds are part of the interval, so more of them may be needed as well as items"
    if pairs.n < 2 and not pairs.binary:
        return "; one item shows no spread, so how many would decide is unknown"
    if needed is None:
        return f"; at this estimate no number of items up to {MAX_ITEMS:,} would decide"
    return f"; about {needed} items would decide"


def points(value: float) -> str:
    """Return a difference in percentage points, signed."""
    return f"{100 * value:+z.2f}"


def _too_few_seeds(pairs: Pairs, seeds: int) -> str | None:
    """Why nothing is decided where all items share draws of too few seeds, None where that is not so.

    The spread over items says nothing of the next seed: the bound would be wrong in one case of five.
    """
    if not pairs.shared or seeds >= LEAST_SEEDS:
        return None
    return (
        f"all items share the draws of a noise seed (key:shared, or an engine that is not deterministic), and"
        f" {seeds} such seed{'s' * (seeds != 1)} decide{'s' * (seeds == 1)} nothing: {LEAST_SEEDS} noise seeds are"
        " needed to know how far they lie apart"
    )


def difference_requirement(pairs: Pairs, margin: float, alpha: float) -> Requirement:
    """Return the verdict on a drop that must stay within ``margin``: lower bound above -margin PASS, upper bound below
    it FAIL."""
    test, few = difference_test(pairs), _too_few_seeds(pairs, max(pairs.first.shape[1], pairs.second.shape[1]))
    found = difference(pairs, alpha)
    falling = found.estimate < -margin
    words = (
        f"the difference is {points(found.estimate)} points; its interval {points(found.low)} to {points(found.high)}"
    )
    on = f"on {pairs.n} of {pairs.total} items"
    if few is not None:
        return Requirement(INCONCLUSIVE, f"{few}; {words} {on} holds for these seeds only", None, falling)
    verdict = _decide(found, -margin, closed=False)
    needed = test.items_needed(-margin, alpha) if verdict == INCONCLUSIVE else None
    reason = (
        f"{words} {_RELATION[verdict]} {points(-margin)} (margin {100 * margin:.2f} points,"
        f" one-sided alpha {alpha:g}), {on}{_by(test, pairs)}{_outlook(verdict, needed, pairs)}"
    )
    return Requirement(verdict, reason, needed, falling, *_p_values(test.tails(-margin), verdict, alpha))


def retention_requirement(pairs: Pairs, minimum: float, alpha: float, floor: float) -> Requirement:
    """Return the retention must reach ``minimum``; undefined retention is no evidence and INVALID."""
    found, few = retention(pairs, alpha, floor), _too_few_seeds(pairs, pairs.first.shape[1])
    if found is None:
        return Requirement(
            INVALID, f"retention is undefined on {pairs.n} of {pairs.total} items, so it cannot reach {minimum:g}"
        )
    falling = found.estimate < minimum
    words = f"the retention is {found.estimate:z.4f}; its interval {found.low:z.4f} to {found.high:z.4f}"
    on = f"on {pairs.n} of {pairs.total} items"
    if few is not None:
        return Requirement(INCONCLUSIVE, f"{few}; {words} {on} holds for these seeds only", None, falling)
    test = retention_test(pairs)
    tails = test.tails(minimum)
    if over_seeds(pairs):  # the test itself decides: the ratios that it accepts need not be an interval
        verdict = PASS if tails.above <= alpha else FAIL if tails.below < alpha else INCONCLUSIVE
    else:
        verdict = _decide(found, minimum, closed=True)
    needed = test.items_needed(minimum, alpha) if verdict == INCONCLUSIVE else None
    reason = f"{words} {_RELATION[verdict]} the minimum {minimum:g}, {on}{_by(test, pairs)}" + _outlook(
        verdict, needed, pairs
    )
    return Requirement(verdict, reason, needed, falling, *_p_values(tails, verdict, alpha))


def _by(test: PairedTest, pairs: Pairs) -> str:
    """The name of the interval, where it is not the one that the number of draws says."""
    return f", by {test.name}" if pairs.groups is not None else ""
