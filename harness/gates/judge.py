"""The gate: a candidate arm against a baseline arm, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.gates.adjusting import adjusted_levels
from harness.gates.early import Looks, check_independent, look_back, plan_of
from harness.gates.evidence import (
    CleanScores,
    certificate_problems,
    clean_scores,
    control_note,
    control_problems,
    external_note,
    floor_note,
    floor_of,
    floor_problems,
    shared_draws_note,
    shares_draws,
    turned_by_missing,
)
from harness.gates.families import Tests
from harness.gates.keys import axis_note, key_differences
from harness.gates.nats import nats_levels
from harness.gates.origin import origin_notes, other_answers
from harness.gates.pairing import Pairs, flipped_outcomes, pair, pairing_problem, seeds_of, unscored
from harness.gates.perplexity import check_rules, is_continuous, refuse_unscored
from harness.gates.policy import FIXED_SEQUENCE, GatePolicy
from harness.gates.repeated import Repeated, repeated_scores
from harness.gates.requirements import (
    Requirement,
    accuracy,
    combined,
    combined_items,
    difference,
    difference_requirement,
    points,
    retention,
    retention_requirement,
)
from harness.gates.result import GateResult, LevelVerdict
from harness.gates.verdicts import FAIL, INCONCLUSIVE, INVALID, PASS, worst
from harness.record import EXTERNAL, Arm
from harness.stats import EarlyStop, bca_mean, cluster_bca
from harness.stats.sequential import WITHIN
from harness.votes import voted

CLEAN = 0.0


@dataclass(frozen=True)
class _Match:
    """The two arms and the rules, with what level 0 shows."""

    candidate: Arm
    baseline: Arm
    policy: GatePolicy
    clean: CleanScores | None
    looks: Looks | None = None

    def arms(self) -> tuple[tuple[str, Arm], tuple[str, Arm]]:
        return ("candidate", self.candidate), ("baseline", self.baseline)

    @property
    def floor(self) -> float:
        """The clean accuracy (fraction) below which nothing can be lost."""
        return floor_of((self.candidate, self.baseline), self.policy.floor)

    @property
    def clusters(self) -> dict[str, str]:
        """item -> cluster, as either side knows it."""
        return {**self.baseline.clusters, **self.candidate.clusters}

    def notes(self, level: float) -> tuple[str, ...]:
        external = tuple(note for role, arm in self.arms() for note in external_note(role, arm, level))
        return external + shared_draws_note(self.candidate, level)

    def stop_at(self, level: float) -> EarlyStop | None:
        """What looking early found at ``level``, ``None`` where the policy does not look early."""
        return None if self.looks is None else self.looks.levels.get(level)

    def requirements(self, pairings: Sequence[Pairs], level: float) -> tuple[Requirement, ...]:
        """The requirements on (candidate, baseline) and, where it gates, (candidate, its own clean level)."""
        policy, minimum = self.policy, self.policy.retention_at(level)
        if not policy.alpha_left:
            return (
                Requirement(INCONCLUSIVE, "all of alpha went to looking early, so that none is left for a final test"),
            )
        requirements: tuple[Requirement, ...] = (
            difference_requirement(pairings[0], policy.margin_at(level), policy.alpha_left),
        )
        if minimum is not None and len(pairings) > 1:
            requirements += (retention_requirement(pairings[1], minimum, policy.alpha, self.floor),)
        return requirements

    def demands(self, level: float, pairs: Pairs) -> tuple[str, ...]:
        """What the policy asks of the evidence at ``level`` and does not find."""
        policy, found = self.policy, []
        seeds = len(seeds_of(self.candidate.outcomes[level]))
        if level != CLEAN and seeds < policy.noise_seeds:
            found.append(f"{seeds} noise seeds, the policy asks for {policy.noise_seeds}")
        if pairs.n < policy.min_overlap * pairs.total:
            share = 100 * pairs.n / pairs.total
            found.append(
                f"{pairs.n} of {pairs.total} items ({share:.1f} %) were measured on both sides, the policy asks for"
                f" {100 * policy.min_overlap:g} %"
            )
        return tuple(found)


def gate(candidate: Arm, baseline: Arm, policy: GatePolicy | None = None, order_seed: int = 0) -> GateResult:
    """Judge ``candidate`` against ``baseline`` at every level of the baseline (default :class:`GatePolicy`).

    Arms with different measurement keys are never compared: every level is INVALID, and the reasons name each
    differing field. Otherwise items are paired by hash and noise seed, and each level is judged by the lower and
    upper bound of the paired difference (and of the retention, if the policy asks for it). Evidence comes first:
    a certificate with problems, other seeds, a clean score at the floor, or unmeasured items that could turn the
    verdict make a level INVALID. Raises :class:`HarnessError` on a score outside [0, 1], on a rule of the policy for a
    level that is not judged, and for rules on distributions (:func:`harness.gates.joint.gate_both` has both).

    A FAIL is adjusted by Holm over all requirements of all levels in every family, so that the chance of any wrong
    one is at most alpha; where items come in clusters the intervals are over cluster means.
    With ``policy.early_stop`` a level is decided by its e-process over the items in random order (``order_seed``) if
    that decides, else by the interval at the alpha that is left; :class:`HarnessError` where items share draws.
    """
    policy = policy or GatePolicy()
    check_rules(policy, (baseline.key,))
    alone = judged_alone(candidate, baseline, policy, order_seed)
    return alone.result(adjusted_levels(alone.levels, alone.policy))


@dataclass(frozen=True)
class Alone:
    """A candidate against its baseline, every level of ``levels`` judged by itself: no family has adjusted them yet.

    ``differing`` is where the measurement keys differ.
    """

    match: _Match
    levels: tuple[LevelVerdict, ...]
    differing: tuple[str, ...]

    @property
    def policy(self) -> GatePolicy:
        """The rules."""
        return self.match.policy

    def result(self, adjusted: tuple[LevelVerdict, ...]) -> GateResult:
        """Return the verdict over :attr:`levels` as a family has ``adjusted`` them."""
        match, policy, looks = self.match, self.match.policy, self.match.looks
        candidate, baseline = match.candidate, match.baseline
        levels = fixed_sequence(adjusted) if policy.family == FIXED_SEQUENCE else adjusted
        return GateResult(
            verdict=worst(level.verdict for level in levels),
            reasons=control_note(match.arms(), policy.positive_control)
            + (self.differing or _summary(levels))
            + axis_note(candidate.key, baseline.key, policy.across)
            + _not_judged(match)
            + (() if looks is None else (looks.label,)),
            levels=levels,
            family=policy.family_text,
            certificate=candidate.certificate,
            baseline={"label": baseline.label, "status": baseline.certificate.status, "key": dict(baseline.key)},
            inconclusive=policy.inconclusive,
            early=looks,
            notes=floor_note((candidate, baseline), policy.floor) + origin_notes(candidate, baseline),
            alphas=(policy.alpha, policy.alpha_left or policy.alpha),
        )


def judged_alone(candidate: Arm, baseline: Arm, policy: GatePolicy, order_seed: int = 0) -> Alone:
    """Return every level of ``candidate`` judged by itself against ``baseline``, as :func:`gate` does first.

    Raises :class:`HarnessError` for a policy that asks for distributions as well: see :mod:`harness.gates.joint`.
    """
    policy.refuse_distributions("of answers alone", "give what harness divergence record made, with --divergences")
    for arm in (candidate, baseline):
        refuse_unscored(arm.key, arm.label)
    policy.check_judged(judged_levels(candidate, baseline, policy))
    differing = key_differences(candidate.key, baseline.key, policy.across)
    if is_continuous(baseline.key):
        match = _Match(candidate, baseline, policy, None)
        return Alone(match, nats_levels(candidate, baseline, policy, _levels(match), differing), differing)
    looks = None if differing else _looks(candidate, baseline, policy, order_seed)
    baseline = baseline if looks is None else looks.restrict(baseline)
    clean = None if differing else _clean(candidate, baseline, policy.alpha)
    match = _Match(candidate, baseline, policy, clean, looks)
    return Alone(match, tuple(_judge_level(match, level, differing) for level in _levels(match)), differing)


def judged_levels(candidate: Arm, baseline: Arm, policy: GatePolicy) -> list[float]:
    """Return the levels that a gate judges, ascending."""
    return _levels(_Match(candidate, baseline, policy, None))


def _looks(candidate: Arm, baseline: Arm, policy: GatePolicy, order_seed: int) -> Looks | None:
    plan = plan_of(policy, judged_levels(candidate, baseline, policy), order_seed)
    if plan is None:
        return None
    check_independent(plan, candidate, baseline)
    return look_back(plan, candidate, baseline)


def _levels(match: _Match) -> list[float]:
    """The policy's, else the baseline's; and an external candidate's, because none of its noisy levels may go by
    unjudged."""
    if match.policy.levels:
        return sorted(set(match.policy.levels))
    found = set(match.baseline.outcomes)
    if match.candidate.certificate.status == EXTERNAL:
        found |= set(match.candidate.outcomes)
    return sorted(found)


def fixed_sequence(levels: tuple[LevelVerdict, ...]) -> tuple[LevelVerdict, ...]:
    """Return the verdicts in which, after a level that did not PASS, a higher level's PASS is INCONCLUSIVE; nothing
    else changes.

    ``levels`` ascend. A FAIL at a higher level is never hidden.
    """
    found: list[LevelVerdict] = []
    stopped: LevelVerdict | None = None
    for level in levels:
        if stopped is not None and level.verdict == PASS:
            found.append(_held_back(level, stopped))
            continue
        if stopped is None and level.verdict != PASS:
            stopped = level
        found.append(level)
    return tuple(found)


def _held_back(level: LevelVerdict, stopped: LevelVerdict) -> LevelVerdict:
    words = (
        f"taken alone this level would PASS, but level {stopped.level:g} is {stopped.verdict},"
        " and in a fixed sequence a level can PASS only after every lower one did"
    )
    return replace(level, verdict=INCONCLUSIVE, reasons=(words, *level.reasons))


def _clean(candidate: Arm, baseline: Arm, alpha: float) -> CleanScores | None:
    if pairing_problem(candidate, baseline, CLEAN):
        return None
    clusters = {**baseline.clusters, **candidate.clusters}
    return clean_scores(pair(candidate.outcomes[CLEAN], baseline.outcomes[CLEAN], clusters=clusters), alpha)


def _judge_level(match: _Match, level: float, differing: tuple[str, ...]) -> LevelVerdict:
    notes = match.notes(level)
    if differing:
        return LevelVerdict(level, INVALID, differing + notes)
    wanted = match.policy.positive_control
    objections = tuple(
        words
        for role, arm in match.arms()
        for words in (*certificate_problems(role, arm, level), *control_problems(role, arm, wanted))
    )
    unpaired = pairing_problem(match.candidate, match.baseline, level)
    if unpaired:
        return LevelVerdict(level, INVALID, (unpaired, *objections, *notes))
    shared = any(shares_draws(arm, level) for _, arm in match.arms())
    pairs = pair(match.candidate.outcomes[level], match.baseline.outcomes[level], shared, clusters=match.clusters)
    own = _own_pairs(match.candidate, level)
    measured = _measure(match, level, pairs, own)
    if pairs.n == 0:
        none = f"none of {pairs.total} items was measured on both sides"
        return replace(measured, reasons=(none, *objections, *notes))
    objections += match.demands(level, pairs) + other_answers(match.candidate, match.baseline, level)
    stop = match.stop_at(level)
    if stop is None or stop.decision is None:
        decided = _decide(match, measured, (pairs,) if own is None else (pairs, own), objections)
        looked = () if stop is None else (stop.label,)
        return replace(decided, reasons=decided.reasons + looked + notes, early=stop)
    decided = _decide_early(match, measured, stop, objections)
    return replace(decided, reasons=decided.reasons + notes, early=stop)


def _own_pairs(candidate: Arm, level: float) -> Pairs | None:
    """The candidate's noisy outcomes beside its own clean ones, or ``None`` at level 0 and without them."""
    clean = candidate.outcomes.get(CLEAN)
    if not clean or level == CLEAN:
        return None
    return pair(candidate.outcomes[level], clean, shares_draws(candidate, level), clusters=candidate.clusters)


def _decide(
    match: _Match, measured: LevelVerdict, pairings: tuple[Pairs, ...], objections: tuple[str, ...]
) -> LevelVerdict:
    level = measured.level
    requirements = match.requirements(pairings, level)
    verdict = combined(requirements)
    gating = pairings[:1] if match.policy.retention_at(level) is None else pairings
    objections += floor_problems(match.clean, match.floor, verdict)
    objections += turned_by_missing(gating, lambda given: combined(match.requirements(given, level)))
    if objections:
        return replace(measured, reasons=objections)
    in_family = verdict != INVALID
    return replace(
        measured,
        verdict=verdict,
        reasons=tuple(requirement.reason for requirement in requirements),
        items_needed=combined_items(requirements) if verdict == INCONCLUSIVE else None,
        tests=Tests.of(gating, lambda given: match.requirements(given, level)) if in_family else None,
    )


def _decide_early(match: _Match, measured: LevelVerdict, stop: EarlyStop, objections: tuple[str, ...]) -> LevelVerdict:
    """The e-values decide; they have counted unmeasured outcomes against themselves already."""
    verdict = PASS if stop.decision == WITHIN else FAIL
    objections += floor_problems(match.clean, match.floor, verdict)
    if objections:
        return replace(measured, reasons=objections)
    shown = "" if measured.difference is None else points(measured.difference.estimate)
    margin = 100 * match.policy.margin_at(measured.level)
    words = f"the difference is {shown} points on the {measured.n} items evaluated (margin {margin:.2f} points)"
    return replace(measured, verdict=verdict, reasons=(stop.label, words))


def _measure(match: _Match, level: float, pairs: Pairs, own: Pairs | None) -> LevelVerdict:
    """The numbers of one level, INVALID until it is judged."""
    policy = match.policy
    cells = {role: arm.outcomes[level] for role, arm in match.arms()}
    seeds = seeds_of(cells["candidate"])
    items = set(cells["candidate"]) | set(cells["baseline"])
    counts = {role: unscored(side, items, seeds) for role, side in cells.items()}
    found = LevelVerdict(level, INVALID, (), n=pairs.n, seeds=seeds, unscored=counts)
    if pairs.n == 0:
        return found
    ours, theirs = pairs.means()
    lost, gained = pairs.flips()
    alpha = policy.alpha_left or policy.alpha
    bootstrap = None
    if policy.bootstrap_resamples:
        label = f"level {level:g}"
        groups = pairs.groups
        how = (alpha, policy.bootstrap_seed, policy.bootstrap_resamples, label)
        bootstrap = bca_mean(ours - theirs, *how) if groups is None else cluster_bca(ours - theirs, groups, *how)
    return replace(
        found,
        accuracy=accuracy(pairs, ours, policy.alpha),
        baseline_accuracy=accuracy(pairs, theirs, policy.alpha),
        difference=difference(pairs, alpha),
        retention=retention(own, policy.alpha, match.floor) if own is not None else None,
        bootstrap=bootstrap,
        lost=lost,
        gained=gained,
        flipped=flipped_outcomes(cells["candidate"], cells["baseline"]),
        repeated=_repeated(match, level),
    )


def _repeated(match: _Match, level: float) -> tuple[Repeated, ...]:
    """Sampled answers beside the baseline's; with majorities where both sides say which answers are the same."""
    arms = match.candidate, match.baseline
    ours, theirs = (arm.outcomes[level] for arm in arms)
    votes = [arm.votes.get(level) for arm in arms]
    answers = voted(votes[0] or {}), voted(votes[1] or {})
    return repeated_scores(
        *(ours, theirs, match.policy.alpha),
        key=match.candidate.key,
        clusters=match.clusters,
        answers=answers if all(votes) else None,
    )


def _summary(levels: tuple[LevelVerdict, ...]) -> tuple[str, ...]:
    """Why the whole is what it is: the reasons of every level with the deciding verdict."""
    if not levels:
        return ("the baseline holds no level, so there is nothing to judge",)
    verdict = worst(level.verdict for level in levels)
    return tuple(
        f"level {level.level:g} {level.verdict}: {'; '.join(level.reasons)}"
        for level in levels
        if level.verdict in (verdict, FAIL)
    )


def _not_judged(match: _Match) -> tuple[str, ...]:
    extra = sorted(set(match.candidate.outcomes) - set(_levels(match)))
    why = "the policy does not name it" if match.policy.levels else "the baseline does not have it"
    return tuple(f"level {level:g} was not judged: {why}" for level in extra)
