"""One requirement each: the interval, what it says about its bound, and the items that would decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.gates.pairing import Floats, Pairs
from harness.gates.verdicts import FAIL, INCONCLUSIVE, INVALID, PASS
from harness.stats import (
    MAX_ITEMS,
    Interval,
    items_needed_mean,
    items_needed_paired,
    items_needed_ratio,
    mean_ratio,
    paired_mean,
    ratio_score,
    score_mean,
    tango,
    two_way_mean,
    wilson,
)


@dataclass(frozen=True)
class Part:
    """What one requirement says. ``falling``: the estimate lies below the bound, so more items would FAIL it."""

    verdict: str
    reason: str
    needed: int | None = None
    falling: bool = False


def combined(parts: Sequence[Part]) -> str:
    """All must PASS; one FAIL decides, also where another requirement has no evidence."""
    verdicts = {part.verdict for part in parts}
    return next(verdict for verdict in (FAIL, INVALID, INCONCLUSIVE, PASS) if verdict in verdicts)


def combined_items(parts: Sequence[Part]) -> int | None:
    """The items that would decide: the first to FAIL, else the last to PASS; ``None`` where unknown."""
    undecided = [part for part in parts if part.verdict == INCONCLUSIVE]
    failing = [part.needed for part in undecided if part.falling and part.needed is not None]
    if failing:
        return min(failing)
    needed = [part.needed for part in undecided]
    known = [count for count in needed if count is not None]
    return max(known) if known and len(known) == len(needed) else None


def accuracy(values: Floats, binary: bool, alpha: float) -> Interval:
    """Accuracy (fraction) of per-item means: Wilson for single draws, else Student's t."""
    if binary:
        return wilson(float(values.sum()), len(values), alpha)
    return score_mean(values, alpha)


def difference(pairs: Pairs, alpha: float) -> Interval:
    """Mean of first - second over measured pairs: Tango for single draws, else per-item means; over items and noise
    seeds where all items share the draws of a seed and there are enough seeds."""
    if pairs.binary:
        return tango(*pairs.flips(), pairs.n, alpha)
    if pairs.crossed:
        ours, theirs = pairs.cells()
        return two_way_mean(ours - theirs, alpha)
    first, second = pairs.means()
    return paired_mean(first - second, alpha)


def retention(pairs: Pairs, alpha: float, floor: float) -> Interval | None:
    """acc(noisy) / acc(clean); ``None`` where the clean accuracy's lower bound is below ``floor``."""
    noisy, clean = pairs.means()
    if pairs.n == 0 or accuracy(clean, pairs.binary, alpha).low < floor:
        return None
    return ratio_score(*_table(pairs), alpha) if pairs.binary else mean_ratio(noisy, clean, alpha)


def _table(pairs: Pairs) -> tuple[int, int, int, int]:
    """(n11, n10, n01, n00), first index noisy, second clean."""
    noisy, _ = pairs.means()
    lost, gained = pairs.flips()
    right = int(noisy.sum())
    return right - gained, gained, lost, pairs.n - right - lost


def _decide(interval: Interval, bound: float, closed: bool) -> str:
    """PASS above the bound, FAIL below it, else INCONCLUSIVE. ``closed``: the bound itself is accepted."""
    if interval.low > bound or (closed and interval.low == bound):
        return PASS
    return FAIL if interval.high < bound else INCONCLUSIVE


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
    """A difference in percentage points, signed."""
    return f"{100 * value:+.2f}"


def _spread(values: Floats) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def difference_part(pairs: Pairs, margin: float, alpha: float) -> Part:
    """The drop must stay within ``margin``: lower bound above -margin PASS, upper bound below it FAIL."""
    found = difference(pairs, alpha)
    verdict, needed = _decide(found, -margin, closed=False), None
    if verdict == INCONCLUSIVE and pairs.binary:
        needed = items_needed_paired(*pairs.flips(), pairs.n, margin, alpha)
    elif verdict == INCONCLUSIVE and pairs.n > 1 and not pairs.crossed:
        first, second = pairs.means()
        needed = items_needed_mean(found.estimate, _spread(first - second), margin, alpha)
    reason = (
        f"the difference is {points(found.estimate)} points; its interval {points(found.low)} to"
        f" {points(found.high)} {_RELATION[verdict]} {points(-margin)} (margin {100 * margin:.2f} points,"
        f" one-sided alpha {alpha:g}), on {pairs.n} of {pairs.total} items{_outlook(verdict, needed, pairs)}"
    )
    return Part(verdict, reason, needed, found.estimate < -margin)


def retention_part(pairs: Pairs, minimum: float, alpha: float, floor: float) -> Part:
    """The retention must reach ``minimum``; undefined retention is no evidence and INVALID."""
    found = retention(pairs, alpha, floor)
    if found is None:
        return Part(
            INVALID, f"retention is undefined on {pairs.n} of {pairs.total} items, so it cannot reach {minimum:g}"
        )
    verdict, needed = _decide(found, minimum, closed=True), None
    if verdict == INCONCLUSIVE and pairs.binary:
        needed = items_needed_ratio(*_table(pairs), minimum, alpha)
    elif verdict == INCONCLUSIVE:
        noisy, clean = pairs.means()
        excess = noisy - minimum * clean
        needed = items_needed_mean(float(excess.mean()), _spread(excess), 0.0, alpha)
    reason = (
        f"the retention is {found.estimate:.4f}; its interval {found.low:.4f} to {found.high:.4f}"
        f" {_RELATION[verdict]} the minimum {minimum:g}, on {pairs.n} of {pairs.total} items"
        f"{_outlook(verdict, needed, pairs)}"
    )
    return Part(verdict, reason, needed, found.estimate < minimum)
