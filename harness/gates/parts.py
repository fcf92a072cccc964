"""One requirement each: the interval, what it says about its bound, and the items that would decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.gates.pairing import Floats, Pairs
from harness.gates.verdicts import FAIL, INCONCLUSIVE, INVALID, PASS
from harness.stats import (
    LEAST_SEEDS,
    MAX_ITEMS,
    Interval,
    Tails,
    items_needed_mean,
    items_needed_paired,
    items_needed_ratio,
    mean_ratio,
    mean_tails,
    paired_mean,
    ratio_score,
    ratio_tails,
    score_mean,
    tango,
    tango_tails,
    two_way_mean,
    two_way_ratio,
    two_way_tails,
    wilson,
)


@dataclass(frozen=True)
class Part:
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
    """acc(noisy) / acc(clean); ``None`` where the clean accuracy's lower bound is below ``floor``.

    Over items and noise seeds where all items share the draws of a seed and there are enough seeds: the clean side then
    has one score per item, the same beside every seed.
    """
    noisy, clean = pairs.means()
    if pairs.n == 0 or accuracy(clean, pairs.binary, alpha).low < floor:
        return None
    if pairs.binary:
        return ratio_score(*_table(pairs), alpha)
    if _over_seeds(pairs):
        return two_way_ratio(pairs.cells()[0], clean, alpha)
    return mean_ratio(noisy, clean, alpha)


def _over_seeds(pairs: Pairs) -> bool:
    """True where a retention is over items and seeds: the noisy side alone has to show how far seeds lie apart."""
    return pairs.crossed and pairs.first.shape[1] >= LEAST_SEEDS


def _shortfall(pairs: Pairs, minimum: float) -> Floats:
    """noisy - minimum * clean, (items, seeds) where seeds are crossed with items, else (items,) means over seeds."""
    noisy, clean = pairs.means()
    if _over_seeds(pairs):
        found: Floats = pairs.cells()[0] - minimum * clean[:, None]
        return found
    return noisy - minimum * clean


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


def _p_values(tails: Tails, verdict: str, alpha: float) -> tuple[float, float]:
    """(p_pass, p_fail); where rounding sets p and interval apart, the interval has the last word."""
    beyond = math.nextafter(alpha, 1.0)
    passing = min(tails.above, alpha) if verdict == PASS else max(tails.above, beyond)
    return passing, min(tails.below, alpha) if verdict == FAIL else max(tails.below, beyond)


def _difference_tails(pairs: Pairs, bound: float) -> Tails:
    """Of the test whose interval :func:`difference` is."""
    if pairs.binary:
        return tango_tails(*pairs.flips(), pairs.n, bound)
    if pairs.crossed:
        ours, theirs = pairs.cells()
        return two_way_tails(ours - theirs, bound)
    first, second = pairs.means()
    return mean_tails(first - second, bound)


def _retention_tails(pairs: Pairs, minimum: float) -> Tails:
    """Of the test whose interval :func:`retention` is."""
    if pairs.binary:
        return ratio_tails(*_table(pairs), minimum)
    shortfall = _shortfall(pairs, minimum)
    return two_way_tails(shortfall, 0.0) if _over_seeds(pairs) else mean_tails(shortfall, 0.0)


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
    p_values = _p_values(_difference_tails(pairs, -margin), verdict, alpha)
    return Part(verdict, reason, needed, found.estimate < -margin, *p_values)


def retention_part(pairs: Pairs, minimum: float, alpha: float, floor: float) -> Part:
    """The retention must reach ``minimum``; undefined retention is no evidence and INVALID."""
    found = retention(pairs, alpha, floor)
    if found is None:
        return Part(
            INVALID, f"retention is undefined on {pairs.n} of {pairs.total} items, so it cannot reach {minimum:g}"
        )
    needed = None
    if _over_seeds(pairs):  # the test itself decides: the ratios that it accepts need not be an interval
        verdict = _decide(two_way_mean(_shortfall(pairs, minimum), alpha), 0.0, closed=True)
    else:
        verdict = _decide(found, minimum, closed=True)
    if verdict == INCONCLUSIVE and pairs.binary:
        needed = items_needed_ratio(*_table(pairs), minimum, alpha)
    elif verdict == INCONCLUSIVE and not _over_seeds(pairs):
        shortfall = _shortfall(pairs, minimum)
        needed = items_needed_mean(float(shortfall.mean()), _spread(shortfall), 0.0, alpha)
    reason = (
        f"the retention is {found.estimate:.4f}; its interval {found.low:.4f} to {found.high:.4f}"
        f" {_RELATION[verdict]} the minimum {minimum:g}, on {pairs.n} of {pairs.total} items"
        f"{_outlook(verdict, needed, pairs)}"
    )
    p_values = _p_values(_retention_tails(pairs, minimum), verdict, alpha)
    return Part(verdict, reason, needed, found.estimate < minimum, *p_values)
