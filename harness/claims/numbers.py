"""Differences recomputed from published numbers: from the questions (counts) and from the spread between runs.

Two-sided 95 % throughout, 90 % for equivalence. Differences of accuracies are percentage points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scipy import special, stats

from harness.claims.effective import Spread, effective_hashes, find_spread, replicates_of
from harness.claims.judgements import Numbers
from harness.claims.model import ACCURACY, PERCENT_METRICS, Place, Registry, Value
from harness.stats.replicates import attainable_p, seeds_needed, welch, welch_from_summary

Bounds = tuple[float, float]
WELCH, POOLED = "Welch over replicates", "pooled spread of accidental replicates"
POWER, ALPHA = 0.8, 0.05
_POWER_Z = float(special.ndtri(1 - ALPHA / 2) + special.ndtri(POWER))


@dataclass(frozen=True)
class Context:
    """The registry with its effective configurations and the spread of its accidental replicates, computed once."""

    registry: Registry
    hashes: Mapping[str, str]
    spread: Spread

    @classmethod
    def of(cls, registry: Registry) -> Context:
        """Return the context of ``registry``."""
        hashes = effective_hashes(registry)
        return cls(registry, hashes, find_spread(registry, hashes))


def counts(value: Value) -> tuple[int, int] | None:
    """Return (right answers, questions) of a percentage over known questions."""
    if value.metric not in PERCENT_METRICS or value.n is None:
        return None
    return round(value.value * value.n / 100), value.n


def question_bounds(arm: Value, reference: Value, alpha: float = ALPHA) -> Bounds | None:
    """Return Newcombe's interval of the unpaired difference (points) at level 1 - alpha: no answers of items are
    left."""
    ours, theirs = counts(arm), counts(reference)
    if ours is None or theirs is None:
        return None
    from statsmodels.stats.proportion import confint_proportions_2indep

    low, high = confint_proportions_2indep(*ours, *theirs, compare="diff", method="newcomb", alpha=alpha)
    return 100 * float(low), 100 * float(high)


def question_p(arm: Value, reference: Value) -> float | None:
    """Return the two-sided p of the pooled z test of two proportions; 1 where both are all right or all wrong."""
    ours, theirs = counts(arm), counts(reference)
    if ours is None or theirs is None:
        return None
    right, total = ours[0] + theirs[0], ours[1] + theirs[1]
    if right in (0, total):
        return 1.0
    from statsmodels.stats.proportion import proportions_ztest

    return float(proportions_ztest([ours[0], theirs[0]], [ours[1], theirs[1]])[1])


def difference_numbers(
    context: Context, places: tuple[Place, ...], values: tuple[Value, ...], claimed: Bounds | None, alpha: float = ALPHA
) -> Numbers:
    """Return the numbers of arm minus reference; two values of one run have no spread between runs."""
    arm, reference = values
    difference = arm.value - reference.value
    interval, p = question_bounds(arm, reference, alpha), question_p(arm, reference)
    n = (arm.n, reference.n)
    base = Numbers(difference, claimed, interval, p, (1, 1), n)
    if places[0].experiment == places[1].experiment:
        return base
    if arm.sd is not None and reference.sd is not None:
        return _summary(base, arm, reference, alpha)
    return _replicated(base, context, places, values, alpha)


def interaction_numbers(context: Context, values: tuple[Value, ...], claimed: Bounds | None) -> Numbers:
    """Return the numbers of (a - b) - (c - d); the unpaired standard errors of four proportions add up."""
    a, b, c, d = values
    difference = (a.value - b.value) - (c.value - d.value)
    interval, p = None, None
    tables = [counts(value) for value in values]
    if all(table is not None for table in tables):
        shares = [(right / total, total) for right, total in (table for table in tables if table is not None)]
        error = 100 * math.sqrt(sum(share * (1 - share) / total for share, total in shares))
        half = float(stats.norm.isf(ALPHA / 2)) * error
        interval = difference - half, difference + half
        p = float(2 * stats.norm.sf(abs(difference) / error)) if error else None
    found = Numbers(difference, claimed, interval, p, (1, 1), tuple(value.n for value in values), difference)
    half = context.spread.pooled.half_width(1, 1, ALPHA / 2)
    if math.isinf(half) or a.metric != ACCURACY:
        return found
    return replace(found, run_interval=(difference - half, difference + half), run_method=POOLED)


def value_bounds(context: Context, value: Value) -> tuple[Bounds, ...]:
    """Return intervals of one value: Wilson's over its questions, and the spread between runs; those that the data
    allow."""
    found: list[Bounds] = []
    table = counts(value)
    if table is not None:
        from harness.stats.proportion import wilson

        interval = wilson(*table, ALPHA / 2)
        found.append((100 * interval.low, 100 * interval.high))
    pooled = context.spread.pooled
    if value.metric == ACCURACY and pooled.freedom:
        half = pooled.half_width(1, 1, ALPHA / 2) / math.sqrt(2)
        found.append((value.value - half, value.value + half))
    return tuple(found)


def items_needed(arm: Value, reference: Value, size: float) -> int | None:
    """Return questions per arm at which an unpaired test finds a difference of ``size`` points with 80 % power."""
    if arm.metric != ACCURACY or reference.metric != ACCURACY or abs(size) < 1e-9:
        return None
    base = reference.value / 100
    other = min(1.0, max(0.0, base + size / 100))
    from statsmodels.stats.proportion import proportion_effectsize

    effect = abs(float(proportion_effectsize(other, base)))
    if effect < 1e-9:
        return None
    return max(2, math.ceil(2 * (_POWER_Z / effect) ** 2))


def items_for_interaction(values: tuple[Value, ...], size: float) -> int | None:
    """Return questions per value at which a difference of two losses of ``size`` points is found, from the observed
    shares."""
    if any(value.metric != ACCURACY for value in values) or abs(size) < 1e-9:
        return None
    variance = sum(value.value * (100 - value.value) for value in values)
    return max(2, math.ceil(_POWER_Z**2 * variance / size**2))


def seeds_to_settle(context: Context, values: tuple[Value, ...], size: float) -> int | None:
    """Return the runs per arm at which a t-test finds ``size``, given the spread between runs that is known."""
    sds = [value.sd for value in values if value.sd is not None]
    if len(sds) == len(values):
        sd = math.sqrt(sum(one * one for one in sds) / len(sds))
    elif values[0].metric == ACCURACY:
        sd = context.spread.sd
    else:
        return None
    return seeds_needed(size, sd, ALPHA / 2, POWER)


def _summary(base: Numbers, arm: Value, reference: Value, alpha: float) -> Numbers:
    assert arm.sd is not None and reference.sd is not None
    runs = arm.seeds, reference.seeds
    found = welch_from_summary((arm.value, reference.value), (arm.sd, reference.sd), runs, alpha / 2)
    return _with_runs(base, runs, found.interval.estimate, (found.interval.low, found.interval.high), found.p, WELCH)


def _replicated(
    base: Numbers, context: Context, places: tuple[Place, ...], values: tuple[Value, ...], alpha: float
) -> Numbers:
    arms = [
        [value.value, *(other.value for other in replicates_of(context.registry, context.hashes, place).values())]
        for place, value in zip(places, values, strict=True)
    ]
    runs = len(arms[0]), len(arms[1])
    estimate = sum(arms[0]) / runs[0] - sum(arms[1]) / runs[1]
    if min(runs) > 1:
        found = welch(arms[0], arms[1], alpha / 2)
        if found.p is not None:
            bounds = found.interval.low, found.interval.high
            return _with_runs(base, runs, estimate, bounds, found.p, WELCH)
    pooled = context.spread.pooled
    half = pooled.half_width(*runs, alpha / 2)
    if math.isinf(half) or values[0].metric != ACCURACY:
        return _with_runs(base, runs, estimate, None, None, "")
    error = pooled.sd * math.sqrt(1 / runs[0] + 1 / runs[1])
    p = float(2 * stats.t.sf(abs(estimate) / error, pooled.freedom)) if error else None
    return _with_runs(base, runs, estimate, (estimate - half, estimate + half), p, POOLED)


def _with_runs(
    base: Numbers, runs: tuple[int, int], estimate: float, bounds: Bounds | None, p: float | None, method: str
) -> Numbers:
    least = attainable_p(*runs) if min(runs) > 1 else None
    found = replace(base, runs=runs, run_difference=estimate, run_interval=bounds, run_p=p)
    return replace(found, run_method=method, attainable_p=least)


def pooled_bounds(context: Context, numbers: Numbers) -> Bounds | None:
    """Return the interval of the pooled spread, also where Welch's was taken."""
    if numbers.run_difference is None or len(numbers.runs) != 2:
        return None
    half = context.spread.pooled.half_width(*numbers.runs, ALPHA / 2)
    return None if math.isinf(half) else (numbers.run_difference - half, numbers.run_difference + half)
