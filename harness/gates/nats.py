"""A verdict on log-likelihoods of texts: how many nats a token the candidate loses, document by document.

The estimate is a ratio of sums: what all documents lost, by all of their tokens, so that a document counts by its
length. Its error is over documents, or clusters of them, whose noise seeds move together, by a bound that holds for
losses with a long tail (:meth:`harness.stats.SkewedMean.ratio`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from harness.exceptions import HarnessError
from harness.gates.evidence import (
    certificate_problems,
    control_problems,
    external_note,
    shared_draws_note,
    shares_draws,
)
from harness.gates.families import Tests
from harness.gates.pairing import Cells, pairing_problem, seeds_of, unscored
from harness.gates.policy import GatePolicy
from harness.gates.requirements import Requirement
from harness.gates.result import LevelVerdict, NatsLost
from harness.gates.verdicts import FAIL, INCONCLUSIVE, INVALID, PASS
from harness.record import Arm, TextOutcome
from harness.stats import SkewedMean, Tails
from harness.stats.quantiles import z_quantile
from harness.stats.skewed import STRICTER
from harness.text import named

SAME_NATS = 1e-4
"""Nats a token by which a document of the same checkpoint may differ in float32: the last bits of products move it by
1e-6, noise by more than 1e-3."""

LEAST_DOCUMENTS = 80
"""The fewest documents of equal length that PASS. Where one document in twenty breaks, a loss at the margin PASSes in
5.5 % of samples of 80 and in 9 % of samples of 59 (:data:`harness.stats.skewed.LEAST_UNITS`); nominal 5 %."""

ROUNDED = 1e-3
"""By how much a log-likelihood (nats) may pass 0: float32 log-probabilities of tokens that are certain."""


@dataclass(frozen=True)
class _Documents:
    """What both sides know of the documents of a level: item -> mean log-likelihood over its seeds (nats), and its
    tokens."""

    ours: Mapping[str, float]
    theirs: Mapping[str, float]
    tokens: Mapping[str, int]

    def mean(self, clusters: Mapping[str, str]) -> SkewedMean:
        """What is lost for each token."""
        sums: dict[str, float] = {}
        sizes: dict[str, float] = {}
        for item, size in self.tokens.items():
            name = clusters.get(item, f"item:{item}")
            sums[name] = sums.get(name, 0.0) + self.theirs[item] - self.ours[item]
            sizes[name] = sizes.get(name, 0.0) + size
        return SkewedMean.ratio(list(sums.values()), list(sizes.values()))

    def nats(self, side: Mapping[str, float]) -> float:
        """The negative log-likelihood of one side for each token."""
        return -math.fsum(side.values()) / sum(self.tokens.values())


def nats_levels(
    candidate: Arm, baseline: Arm, policy: GatePolicy, levels: list[float], differing: tuple[str, ...]
) -> tuple[LevelVerdict, ...]:
    """Return the verdict of each of ``levels`` taken alone; ``differing`` says where the measurement keys differ.

    Upper bound of what is lost below the margin PASS, lower bound above it FAIL, else INCONCLUSIVE. Below
    :data:`LEAST_DOCUMENTS` documents of equal length nothing PASSes. A document that is not measured
    on both sides, or whose log-likelihood is not finite, makes a level INVALID: what it lost has no bound.
    Raises :class:`HarnessError` where ``policy`` has no margin in nats.
    """
    for level in levels:
        if policy.nats_margin_at(level) is None:
            raise HarnessError(
                f"{baseline.label} at level {level:g}",
                "it holds log-likelihoods of texts, and no margin in nats a token is given",
                "give --nats-margin 0.05, or nats_margin in the policy",
            )
    return tuple(_level(candidate, baseline, policy, level, differing) for level in levels)


def _level(candidate: Arm, baseline: Arm, policy: GatePolicy, level: float, differing: tuple[str, ...]) -> LevelVerdict:
    arms = ("candidate", candidate), ("baseline", baseline)
    notes = tuple(note for role, arm in arms for note in external_note(role, arm, level))
    notes += shared_draws_note(candidate, level)
    if differing:
        return LevelVerdict(level, INVALID, differing + notes)
    objections = tuple(
        words
        for role, arm in arms
        for words in (*certificate_problems(role, arm, level), *control_problems(role, arm, policy.positive_control))
    )
    unpaired = pairing_problem(candidate, baseline, level)
    if unpaired:
        return LevelVerdict(level, INVALID, (unpaired, *objections, *notes))
    ours, theirs = candidate.outcomes[level], baseline.outcomes[level]
    seeds, items = seeds_of(ours), set(ours) | set(theirs)
    counts = {role: unscored(arm.outcomes[level], items, seeds) for role, arm in arms}
    found = LevelVerdict(level, INVALID, (), seeds=seeds, unscored=counts)
    objections += tuple(_unmeasured(ours, theirs, seeds))
    if level and len(seeds) < policy.noise_seeds:
        objections += (f"{len(seeds)} noise seeds, the policy asks for {policy.noise_seeds}",)
    if objections:
        return replace(found, reasons=(*objections, *notes))
    documents = _Documents(_means(ours), _means(theirs), _tokens(ours))
    other = _other_likelihoods(candidate, baseline, documents)
    mean = documents.mean({**baseline.clusters, **candidate.clusters})
    margin = policy.nats_margin_at(level)
    assert margin is not None
    measured = replace(found, n=len(documents.tokens), nats=_lost(mean, documents, margin, policy.alpha))
    if other:
        return replace(measured, reasons=(*other, *notes))
    shared = shares_draws(candidate, level) or shares_draws(baseline, level)
    requirement = (
        _undecided() if shared else nats_requirement(mean, documents.nats(documents.theirs), margin, policy.alpha)
    )
    said = f"{requirement.reason}{_on(documents, mean)}"
    vain = _lost_already(candidate, baseline, documents, (level, margin)) if requirement.verdict == PASS else ()
    if vain:
        return replace(measured, reasons=(*vain, said, *notes))
    return replace(
        measured,
        verdict=requirement.verdict,
        reasons=(said, *notes),
        items_needed=requirement.needed,
        tests=Tests(*((requirement,),) * 3),
    )


def nats_requirement(mean: SkewedMean, room: float, margin: float, alpha: float) -> Requirement:
    """Return the verdict on what is lost, ``mean``, that must lie below ``margin``; all in nats a token.

    ``room`` is the baseline's negative log-likelihood, which is the most that a document can gain. Below
    :data:`LEAST_DOCUMENTS` documents nothing PASSes, and a FAIL must stand even if the share of documents that so few
    may not show had gained all of it.
    """
    tails = mean.tails(margin)
    few = mean.weight < LEAST_DOCUMENTS - 1e-9
    if few:
        unseen = 1 - (alpha / STRICTER) ** (1 / max(mean.weight, 1.0))
        beyond = (margin + unseen * room) / (1 - unseen) if unseen < 1 else math.inf
        above = mean.tails(beyond).above if math.isfinite(beyond) else 1.0
        tails = Tails(above=min(1.0, 2 * above), below=1.0)
    interval = mean.interval(alpha)
    verdict = PASS if tails.below <= alpha else FAIL if tails.above <= alpha else INCONCLUSIVE
    relation = "lies below" if interval.high < margin else "lies above" if interval.low > margin else "contains"
    words = (
        f"{mean.estimate:+z.4g} nats a token are lost; the interval {interval.low:+z.4g} to {interval.high:+z.4g}"
        f" {relation} the margin {margin:g} (one-sided alpha {alpha:g})"
    )
    if few and verdict == INCONCLUSIVE:
        words = (
            f"documents that count as {mean.weight:.1f} of equal length show too little of the tail of their losses,"
            f" {LEAST_DOCUMENTS} decide; {words}"
        )
    if mean.tail > 0 and not few:
        words += (
            f"; few documents hold much of it (skewness {mean.skewness:.1f}), so that the upper bound is taken at a"
            f" tenth of alpha (below about {mean.items_needed} documents of this kind)"
        )
    needed = _needed(mean, margin, alpha) if verdict == INCONCLUSIVE else None
    return Requirement(verdict, words, needed, mean.estimate > margin, tails.below, tails.above)


def _needed(mean: SkewedMean, margin: float, alpha: float) -> int | None:
    """About as many documents of this kind as would decide, None where no number is known."""
    gap = abs(mean.estimate - margin)
    if mean.weight < 2 or gap < 1e-12:
        return None
    enough = max(LEAST_DOCUMENTS, (z_quantile(alpha) * mean.sd / gap) ** 2, mean.items_needed if mean.tail > 0 else 0)
    return math.ceil(enough * mean.n / mean.weight)


def _undecided() -> Requirement:
    return Requirement(
        INCONCLUSIVE,
        "all documents share the draws of a noise seed (key:shared, or an engine that is not deterministic), so that"
        " they are no independent sample and decide nothing",
    )


def _lost_already(candidate: Arm, baseline: Arm, documents: _Documents, judged: tuple[float, float]) -> tuple[str, ...]:
    """Return what speaks against a PASS at a noisy level, ``judged`` as (level, margin), because the candidate lost
    without noise what noise takes from the baseline: a wreck has nothing left to lose, and reads noise like a sound
    one. Above the margin and half of what noise takes it cannot PASS."""
    level, margin = judged
    if not level:
        return ()
    clean = [arm.outcomes.get(0.0, {}) for arm in (candidate, baseline)]
    if any(_nats(each) is None for side in clean for item in documents.tokens for each in _row(side, item)):
        return ("level 0 cannot be paired, so nothing shows that there was anything to lose",)
    ours, theirs = (documents.nats(_means({item: side[item] for item in documents.tokens})) for side in clean)
    lost, taken = ours - theirs, documents.nats(documents.theirs) - theirs
    if lost <= max(margin, taken / 2):
        return ()
    return (
        f"without noise the candidate has lost {lost:.2f} nats a token already, where noise takes {taken:.2f} from the"
        f" baseline at this level: what is left to lose shows little, so it cannot PASS",
    )


def _row(side: Cells, item: str) -> Iterable[object]:
    """The outcomes of a document, one that is None where it has none."""
    return side.get(item, {}).values() or (None,)


def _on(documents: _Documents, mean: SkewedMean) -> str:
    grouped = f" in {mean.n} clusters" if mean.n < len(documents.tokens) else ""
    return f", on {len(documents.tokens)} documents{grouped} of {sum(documents.tokens.values()):,} tokens"


def _lost(mean: SkewedMean, documents: _Documents, margin: float, alpha: float) -> NatsLost:
    return NatsLost(
        mean.interval(alpha),
        documents.nats(documents.ours),
        documents.nats(documents.theirs),
        margin,
        sum(documents.tokens.values()),
        mean.n,
        mean.weight,
        mean.skewness,
    )


def _unmeasured(ours: Cells, theirs: Cells, seeds: tuple[int, ...]) -> Iterator[str]:
    """What speaks against judging at all: documents that one side lacks, or has no log-likelihood of."""
    items = sorted(set(ours) | set(theirs))
    for role, side in (("candidate", ours), ("baseline", theirs)):
        missing = [item for item in items if any(seed not in side.get(item, {}) for seed in seeds)]
        if missing:
            yield f"{role}: {len(missing)} of {len(items)} documents are missing ({named(missing)})"
        lost = [item for item in items if any(_nats(outcome) is None for outcome in side.get(item, {}).values())]
        if lost:
            yield (
                f"{role}: {len(lost)} of {len(items)} documents have no finite log-likelihood ({named(lost)}); what"
                " they lost has no bound, and nothing is judged without them"
            )
        above = [item for item in items if any((_nats(each) or 0.0) > ROUNDED for each in side.get(item, {}).values())]
        if above:
            yield f"{role}: {len(above)} of {len(items)} documents have a probability above 1 ({named(above)})"
    apart = [item for item in items if len({*_lengths(ours, item), *_lengths(theirs, item)}) > 1]
    if apart:
        yield f"{len(apart)} of {len(items)} documents have other tokens on both sides ({named(apart)})"


def _nats(outcome: object) -> float | None:
    return outcome.nats if isinstance(outcome, TextOutcome) and outcome.measured else None


def _lengths(cells: Cells, item: str) -> Iterator[int]:
    return (outcome.tokens for outcome in cells.get(item, {}).values() if isinstance(outcome, TextOutcome))


def _tokens(cells: Cells) -> dict[str, int]:
    return {item: next(_lengths(cells, item)) for item in sorted(cells)}


def _means(cells: Cells) -> dict[str, float]:
    """item -> mean over its noise seeds, of documents that are all measured."""
    found = {}
    for item in sorted(cells):
        values = [value for value in map(_nats, cells[item].values()) if value is not None]
        found[item] = math.fsum(values) / len(values)
    return found


def _other_likelihoods(candidate: Arm, baseline: Arm, documents: _Documents) -> tuple[str, ...]:
    """What speaks against two arms of equal weights, settings and measurement key that differ all the same: in float32
    nothing but the last bits of products may."""
    ours, theirs = candidate.origin, baseline.origin
    same = (ours.weights, ours.settings) == (theirs.weights, theirs.settings) and candidate.key == baseline.key
    if not ours.weights or not same or candidate.key.get("dtype") != "float32":
        return ()
    apart = [
        item
        for item, size in documents.tokens.items()
        if abs(documents.ours[item] - documents.theirs[item]) > SAME_NATS * size
    ]
    if not apart:
        return ()
    return (
        f"the same checkpoint gave other log-likelihoods: {len(apart)} of {len(documents.tokens)} documents differ by"
        f" more than {SAME_NATS:g} nats a token ({named(apart)})",
    )
