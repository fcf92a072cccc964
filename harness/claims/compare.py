"""Judges one comparison of a claim, reading by reading. The rules are in :mod:`harness.claims.judge`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from harness.claims import effective, numbers
from harness.claims.judgements import (
    CONFOUNDED,
    FALSE,
    NOT_ESTABLISHED,
    READINGS,
    SINGLE_SEED,
    SUPPORTED,
    VOID,
    Judged,
    Numbers,
    Reading,
    first_of,
)
from harness.claims.kinds import judge_formula, judge_identical, judge_prediction, judge_rate
from harness.claims.model import (
    ABSENT,
    ACCURACY,
    CHECK,
    COPIED,
    EQUIVALENCE,
    FORMULA,
    HEADS,
    IDENTICAL,
    INTERACTION,
    NOISE_LETTERS,
    OFF,
    PREDICTION,
    RATE,
    Claim,
    Comparison,
    Fact,
    Place,
    Registry,
    Value,
)
from harness.claims.numbers import Bounds, Context
from harness.text import signed

QUOTED = 0.1
"""Sources quote to a tenth of a point: a recomputed value that is further off than this is another value."""

EQUIVALENT = 1.0
"""Points within which a difference counts as none where a claim names no margin (the sources' "similar training")."""

NEGLIGIBLE = 0.01
"""An effect below this share of the gap that it is to close is practically nil."""


def judge_comparison(context: Context, claim: Claim, comparison: Comparison) -> Judged:
    """Return the comparison over every reading of its values, with its arms."""
    arms = tuple(arm_view(context, place) for place in comparison.places)
    single = {PREDICTION: judge_prediction, RATE: judge_rate, IDENTICAL: judge_identical}
    if comparison.kind == FORMULA:
        readings = [judge_formula(comparison)]
    elif not (readings := _refused(context, claim, comparison)):
        readings = []
        for values in _choices(context.registry, comparison.places):
            if comparison.kind in single:
                readings.append(single[comparison.kind](context, comparison, values[0]))
            else:
                readings.append(_judge_difference(context, claim, comparison, values))
        readings = _reproduced(comparison, readings)
    elif comparison.kind not in single:  # a void comparison still shows what was published
        reason, verdict = readings[0].reason, readings[0].verdict
        readings = [
            Reading(
                tuple(value.value for value in values), verdict, reason, _numbers(context, comparison, values, 0.05)
            )
            for values in _choices(context.registry, comparison.places)
        ]
    verdict = first_of(READINGS, [reading.verdict for reading in readings])
    reason = next(reading.reason for reading in readings if reading.verdict == verdict)
    return Judged(comparison, verdict, reason + _depends(readings), arms, tuple(readings))


def arm_view(context: Context, place: Place) -> dict[str, Any]:
    """Return as JSON types what is registered at ``place``, and the runs that are its replicates."""
    others = effective.replicates_of(context.registry, context.hashes, place)
    return {
        "experiment": place.experiment,
        "place": str(place),
        "values": [
            {
                "value": value.value,
                "n": value.n,
                "seeds": value.seeds,
                "sources": list(value.sources),
                "noise_at_evaluation": value.measured.get("noise", "C"),
            }
            for value in context.registry.values_at(place)
        ],
        "effective_configuration": context.hashes[place.experiment],
        "replicates": {name: value.value for name, value in others.items()},
    }


def _depends(readings: list[Reading]) -> str:
    verdicts = {reading.verdict for reading in readings}
    if len(verdicts) < 2:
        return ""
    shown = "; ".join(
        f"{reading.verdict} with {' and '.join(f'{value:g}' for value in reading.values)}"
        + (f" (n {', '.join(map(str, dict.fromkeys(reading.numbers.n)))})" if reading.numbers.n else "")
        for reading in readings
    )
    return f"; the published values contradict each other: {shown}"


def _refused(context: Context, claim: Claim, comparison: Comparison) -> list[Reading]:
    """Void where an integrity fact says that what the claim is about was not there."""
    found = [fact for place in comparison.places for fact in _voiding(context.registry, claim, place)]
    if not found:
        return []
    words = "; ".join(f"{fact.failure}: {fact.text}" for fact in dict.fromkeys(found))
    if len(comparison.places) == 2 and _same_thing(context, comparison.places):
        words += "; both arms are one effective configuration"
    return [Reading((), VOID, words, Numbers(None))]


def _voiding(registry: Registry, claim: Claim, place: Place) -> Iterator[Fact]:
    experiment = registry.experiments[place.experiment]
    for fact in registry.facts_of(place.experiment, ABSENT, COPIED):
        if fact.kind == COPIED:
            if fact.step == place.step:
                yield fact
            continue
        concerned = fact.factor in claim.about or bool(claim.about.intersection(HEADS.get(fact.factor, ())))
        if not concerned or (fact.engine and fact.engine != place.engine):
            continue
        configured = experiment.config.get(fact.factor, OFF)
        if fact.factor == "inference_noise":
            configured = f"{place.level:g}" if place.level else OFF
        if configured not in (fact.effective, OFF):
            yield fact


def _choices(registry: Registry, places: tuple[Place, ...]) -> Iterator[tuple[Value, ...]]:
    """Every choice of one value per place; places of one experiment are taken over the same questions."""
    for values in itertools.product(*(registry.values_at(place) for place in places)):
        sizes: dict[str, set[int | None]] = {}
        for place, value in zip(places, values, strict=True):
            sizes.setdefault(place.experiment, set()).add(value.n)
        if all(len(found) == 1 for found in sizes.values()):
            yield values


def _reproduced(comparison: Comparison, readings: list[Reading]) -> list[Reading]:
    """False in every reading where no choice of published values gives the claimed size."""
    if comparison.kind in (PREDICTION, RATE, IDENTICAL, EQUIVALENCE) or comparison.role == CHECK:
        return readings
    if comparison.claimed is None:
        return readings
    low, high = comparison.claimed
    differences = [reading.numbers.difference for reading in readings]
    if any(value is not None and low - QUOTED <= value <= high + QUOTED for value in differences):
        return readings
    shown = ", ".join(signed(value) for value in dict.fromkeys(differences) if value is not None)
    reason = f"the published values give {shown}, not the claimed {_range_text(comparison.claimed)}"
    return [Reading(r.values, FALSE, reason, r.numbers, r.excludes_claimed) for r in readings]


def _numbers(context: Context, comparison: Comparison, values: tuple[Value, ...], alpha: float) -> Numbers:
    if comparison.kind == INTERACTION:
        return numbers.interaction_numbers(context, values, comparison.claimed)
    return numbers.difference_numbers(context, comparison.places, values, comparison.claimed, alpha)


def _judge_difference(context: Context, claim: Claim, comparison: Comparison, values: tuple[Value, ...]) -> Reading:
    """Rules 2 to 7 for one reading of a difference, an interaction or an equivalence."""
    alpha = 0.1 if comparison.kind == EQUIVALENCE else 0.05
    found = _numbers(context, comparison, values, alpha)
    verdict, reason = _verdict(context, claim, comparison, values, found)
    return Reading(tuple(value.value for value in values), verdict, reason, found, _excludes(found, comparison.claimed))


def _verdict(
    context: Context, claim: Claim, comparison: Comparison, values: tuple[Value, ...], found: Numbers
) -> tuple[str, str]:
    registry, places = context.registry, comparison.places
    if comparison.kind != INTERACTION and _same_thing(context, places):
        return FALSE, "both arms have one effective configuration: they are replicates, not arms"
    about = claim.about
    pairs = _pairs(comparison)
    keys = list(dict.fromkeys(key for i, j in pairs for key in _key_differences(values[i], values[j], about)))
    if keys:
        return CONFOUNDED, f"the values were measured differently: {', '.join(keys)}"
    extra = list(
        dict.fromkeys(name for i, j in pairs for name in effective.extra_factors(registry, about, places[i], places[j]))
    )
    if comparison.kind == EQUIVALENCE:
        verdict, reason = _equivalence(comparison, found)
        shown = verdict in (SINGLE_SEED, SUPPORTED)
    else:
        verdict, reason = _strength(context, comparison, values, found)
        shown = verdict != NOT_ESTABLISHED or _on_its_face(found, comparison.sign)
    if not extra:
        return verdict, reason
    if shown:
        return CONFOUNDED, f"the arms also differ in {', '.join(extra)}"
    return verdict, f"{reason}; the arms also differ in {', '.join(extra)}"


def _pairs(comparison: Comparison) -> tuple[tuple[int, int], ...]:
    """Which places must be alike but for the claimed factors."""
    return ((0, 2), (1, 3)) if comparison.kind == INTERACTION else ((0, 1),)


def _same_thing(context: Context, places: tuple[Place, ...]) -> bool:
    arm, reference = places
    if arm.experiment == reference.experiment:
        return False
    ours, theirs = (context.hashes[place.experiment] for place in places)
    alike = (arm.step, arm.level, arm.engine) == (reference.step, reference.level, reference.engine)
    return alike and ours == theirs


def _key_differences(arm: Value, reference: Value, about: frozenset[str]) -> list[str]:
    """Measurement fields that differ; noise at the evaluation that follows from a claimed factor is its effect."""
    found = []
    for name in sorted({*arm.measured, *reference.measured} - {"noise"}):
        ours, theirs = arm.measured.get(name, "-"), reference.measured.get(name, "-")
        if ours != theirs:
            found.append(f"{name} ({ours} against {theirs})")
    here, there = (set(value.measured.get("noise", "C").split("+")) for value in (arm, reference))
    own = arm.engine == reference.engine  # a validation runs under what its run trains with
    if any(not own or not about.intersection(NOISE_LETTERS[letter]) for letter in (here ^ there) - {"C"}):
        found.append(f"noise at the evaluation ({'+'.join(sorted(here))} against {'+'.join(sorted(there))})")
    return found


def _side(bounds: Bounds | None) -> int:
    """+1 or -1 where the bounds exclude 0, else 0."""
    if bounds is None:
        return 0
    return 1 if bounds[0] > 0 else -1 if bounds[1] < 0 else 0


def _on_its_face(found: Numbers, sign: int) -> bool:
    """Significant by the questions alone, or by the runs where no questions are known: what a source would report."""
    return _side(found.interval if found.interval is not None else found.run_interval) == sign


def _strength(context: Context, comparison: Comparison, values: tuple[Value, ...], found: Numbers) -> tuple[str, str]:
    """What an unconfounded difference is worth: a verdict and why."""
    verdict, why = _weighed(context, comparison, values, found)
    return verdict, f"{_difference_text(found)}: {why}"


def _weighed(context: Context, comparison: Comparison, values: tuple[Value, ...], found: Numbers) -> tuple[str, str]:
    sign = comparison.sign
    bounds = [b for b in (found.interval, found.run_interval) if b is not None]
    share = _share_of_gap(context.registry, comparison, found)
    if not bounds:
        return NOT_ESTABLISHED, "neither questions nor replicates give an interval"
    if all(_side(b) == -sign for b in bounds):
        return FALSE, "the data show the opposite direction"
    if share is not None and abs(share) < NEGLIGIBLE:
        return NOT_ESTABLISHED, f"{100 * abs(share):.2g} % of the gap it is to close, practically nil"
    if found.interval is not None and _side(found.interval) != sign:
        return NOT_ESTABLISHED, "the interval of the questions holds 0"
    return _weighed_by_runs(context, comparison, values, found)


def _weighed_by_runs(
    context: Context, comparison: Comparison, values: tuple[Value, ...], found: Numbers
) -> tuple[str, str]:
    """The questions do not contradict it: what do the runs say?"""
    if found.run_interval is None:
        if len(comparison.experiments) == 1:
            return SINGLE_SEED, "more than the questions explain, within one run"
        return NOT_ESTABLISHED, "one run per arm and no replicates to judge it by"
    pooled = found.run_interval
    if found.run_method == numbers.WELCH:
        if _side(pooled) == comparison.sign:
            return SUPPORTED, f"{found.runs[0]} and {found.runs[1]} runs, the interval of their means excludes 0"
        if values[0].metric == ACCURACY:
            pooled = numbers.pooled_bounds(context, found) or pooled
    if _side(pooled) == comparison.sign:
        return SINGLE_SEED, "more than the spread between replicates explains"
    return NOT_ESTABLISHED, "within the spread between replicates"


def _equivalence(comparison: Comparison, found: Numbers) -> tuple[str, str]:
    """A claim of no effect needs its intervals (90 %) inside the margin."""
    margin, text = comparison.margin or EQUIVALENT, _difference_text(found, level=90)
    bounds = [b for b in (found.interval, found.run_interval) if b is not None]
    if bounds and all(low > margin or high < -margin for low, high in bounds):
        return FALSE, f"{text}: a difference beyond {margin:g} is shown"
    if bounds and all(-margin < low and high < margin for low, high in bounds):
        verdict = SUPPORTED if found.run_method == numbers.WELCH else SINGLE_SEED
        return verdict, f"{text}: within {margin:g}"
    widest = max((max(abs(low), abs(high)) for low, high in bounds), default=float("inf"))
    return (
        NOT_ESTABLISHED,
        f"{text}: no difference is shown, and none within {margin:g} either (only within {widest:.1f})",
    )


def _share_of_gap(registry: Registry, comparison: Comparison, found: Numbers) -> float | None:
    if comparison.gap is None or found.difference is None:
        return None
    start, end = (registry.values_at(place)[0].value for place in comparison.gap)
    return found.difference / (end - start) if end != start else None


def _excludes(found: Numbers, claimed: Bounds | None) -> bool:
    bounds = [b for b in (found.interval, found.run_interval) if b is not None]
    return claimed is not None and bool(bounds) and all(claimed[1] < low or claimed[0] > high for low, high in bounds)


def _range_text(claimed: Bounds) -> str:
    return signed(claimed[0]) if claimed[0] == claimed[1] else f"{signed(claimed[0])} to {signed(claimed[1])}"


def _difference_text(found: Numbers, level: int = 95) -> str:
    assert found.difference is not None
    parts = []
    if found.interval is not None:
        parts.append(f"questions {signed(found.interval[0])} to {signed(found.interval[1])}")
    if found.run_interval is not None:
        parts.append(f"runs {signed(found.run_interval[0])} to {signed(found.run_interval[1])}")
    return f"{signed(found.difference)}" + (f" ({level} %: {', '.join(parts)})" if parts else "")
