"""From registered data and integrity facts to a verdict: a pure function, no verdict is stored anywhere.

Rules for one comparison of a claim, in order:

1. **void**: an integrity fact says that a claimed factor was not there in an arm (or that a value was copied). The
   failure is named.
2. **false**: the published values do not give the claimed size in any reading; or both arms have one effective
   configuration, so that they are replicates; or intervals exclude zero on the other side; or arithmetic, a prediction
   or bit-identical results contradict the claim.
3. **confounded**: the values were measured differently (engine, scorer, prompt, base, noise at the evaluation but for
   what follows from the claimed factor), or the arms differ in more than the claimed factors by their *effective*
   configurations or steps, and there is a difference to explain: one that the questions alone would call significant.
   Where nothing was shown there is nothing to explain: not_established, with the extra factors named.
4. **supported**: both arms are replicated (several runs of one effective configuration, or a published standard
   deviation over seeds), Welch's 95 % interval excludes zero in the claimed direction, and so does the questions'.
5. **supported_single_seed**: the difference exceeds sd * sqrt(1/runs + 1/runs) * t of the pooled spread of accidental
   replicates, and the questions' interval excludes zero too. Within one run only the questions count.
6. **not_established** otherwise; also below 1 % of the gap that an effect is to close.

A claim of no effect needs its 90 % intervals inside its margin. Accidental replicates are experiments with equal
effective configurations. Several published values for one number are all judged, and the most careful verdict stands;
a claim that rests on several comparisons has the verdict of its worst one. Comparisons with the role ``check`` put the
same statement to arms that differ in nothing else: where a claim's own comparisons are confounded, checks that all
support it lend it their verdict, checks that all exclude the claimed size make it false, and else it stays confounded.
"""

from __future__ import annotations

from harness.claims.compare import EQUIVALENT, judge_comparison
from harness.claims.effective import Spread
from harness.claims.judgements import (
    CONFOUNDED,
    FALSE,
    NOT_ESTABLISHED,
    PARTS,
    SINGLE_SEED,
    SUPPORTED,
    VOID,
    Judged,
    Judgement,
    first_of,
)
from harness.claims.model import (
    ACCURACY,
    CAUTION,
    CHECK,
    DUPLICATE,
    EQUIVALENCE,
    INTERACTION,
    LETTER_WORDS,
    NO_ARTEFACT,
    NOISE_LETTERS,
    RESTS_ON,
    Claim,
    Registry,
)
from harness.claims.numbers import Context, items_for_interaction, items_needed, seeds_to_settle
from harness.stats.replicates import PooledSpread, seeds_for_equivalence


def judge_all(registry: Registry) -> tuple[Judgement, ...]:
    """Return every claim of the registry, in its order."""
    context = Context.of(registry)
    return tuple(_judge(context, claim) for claim in registry.claims)


def judge(registry: Registry, claim: Claim) -> Judgement:
    """Return one claim."""
    return _judge(Context.of(registry), claim)


def _judge(context: Context, claim: Claim) -> Judgement:
    judged = tuple(judge_comparison(context, claim, comparison) for comparison in claim.comparisons)
    verdict, reason, deciding = _conclude(judged)
    other = _at_other_spreads(context, claim, verdict)
    if other:
        reason += f"; {other}, which contradictory values of the replicates allow"
    seeds, items = (None, None) if deciding is None else _to_settle(context, judged[deciding])
    return Judgement(
        claim,
        verdict,
        reason,
        judged,
        deciding,
        context.spread.sd,
        context.spread.freedom,
        seeds,
        items,
        (*_cautions(context.registry, judged), *_mixed(context.registry, claim, judged, deciding)),
    )


def _at_other_spreads(context: Context, claim: Claim, verdict: str) -> str:
    """The verdict where contradictory values among the replicates give the least or the greatest spread, if another."""
    if verdict not in (SUPPORTED, SINGLE_SEED, NOT_ESTABLISHED):
        return ""
    for sd in dict.fromkeys(context.spread.sd_range):
        spread = Spread(PooledSpread(sd, context.spread.freedom), context.spread.groups)
        there = Context(context.registry, context.hashes, spread)
        found = _conclude(tuple(judge_comparison(there, claim, comparison) for comparison in claim.comparisons))[0]
        if found != verdict:
            return f"{found} at a pooled sd of {sd:.2f}"
    return ""


def _conclude(judged: tuple[Judged, ...]) -> tuple[str, str, int | None]:
    """(verdict, reason, which comparison decided)."""
    own = [index for index, one in enumerate(judged) if one.comparison.role == RESTS_ON]
    if not own:
        return NOT_ESTABLISHED, "no measurement of it is published", None
    verdict = first_of(PARTS, [judged[index].verdict for index in own])
    deciding = next(index for index in own if judged[index].verdict == verdict)
    reason = judged[deciding].reason
    checks = [index for index, one in enumerate(judged) if one.comparison.role == CHECK]
    sound = [index for index in checks if judged[index].verdict not in (VOID, CONFOUNDED)]
    if verdict == CONFOUNDED and sound:
        found = [judged[index].verdict for index in sound]
        if set(found) <= {SUPPORTED, SINGLE_SEED}:
            weakest = first_of(PARTS, found)
            index = sound[found.index(weakest)]
            return (
                weakest,
                f"{judged[index].reason}, on arms alike ({_versus(judged[index])}); as claimed: {reason}",
                index,
            )
        if all(judged[index].excludes_claimed for index in sound):
            index = sound[0]
            alike = f"on arms alike ({_versus(judged[index])}) the claimed size is excluded: {judged[index].reason}"
            return FALSE, f"{alike}; as claimed: {reason}", index
    return verdict, reason + _other_parts(judged, own, deciding), deciding


def _versus(judged: Judged) -> str:
    return " against ".join(str(place) for place in judged.comparison.places)


def _other_parts(judged: tuple[Judged, ...], own: list[int], deciding: int) -> str:
    """Which parts of the conjunction say something else."""
    others = [index for index in own if judged[index].verdict != judged[deciding].verdict]
    return "".join(f"; {_versus(judged[index])}: {judged[index].verdict}" for index in others)


def _to_settle(context: Context, judged: Judged) -> tuple[int | None, int | None]:
    """(seeds, questions) per arm that would settle a difference of the claimed size, else of the observed one."""
    comparison = judged.comparison
    if len(comparison.places) < 2:
        return None, None
    values = tuple(context.registry.values_at(place)[0] for place in comparison.places)
    one_run = len(comparison.experiments) == 1
    if comparison.kind == EQUIVALENCE:
        margin = comparison.margin or EQUIVALENT
        known = values[0].metric == ACCURACY and not one_run
        return (seeds_for_equivalence(margin, context.spread.sd) if known else None), None
    size = judged.numbers.difference or 0.0
    if comparison.claimed is not None:
        size = min(comparison.claimed, key=abs)
    if comparison.kind == INTERACTION:  # the spread of a loss under noise between runs is not known
        return None, items_for_interaction(values, size)
    return None if one_run else seeds_to_settle(context, values, size), items_needed(values[0], values[1], size)


def _mixed(registry: Registry, claim: Claim, judged: tuple[Judged, ...], deciding: int | None) -> tuple[str, ...]:
    """Says so where the deciding values were measured under the claimed factor itself."""
    if deciding is None:
        return ()
    values = [value for place in judged[deciding].comparison.places for value in registry.values_at(place)]
    letters = {letter for value in values for letter in value.measured.get("noise", "C").split("+")} - {"C"}
    found = sorted(letter for letter in letters if claim.about.intersection(NOISE_LETTERS[letter]))
    if not found:
        return ()
    words = " and ".join(LETTER_WORDS[letter] for letter in found)
    return (f"the validation itself ran under {words}: effects on training and on the evaluation are mixed (F8)",)


def _cautions(registry: Registry, judged: tuple[Judged, ...]) -> tuple[str, ...]:
    """Facts that change no verdict but belong beside it."""
    names = dict.fromkeys(name for one in judged for name in one.comparison.experiments)
    facts = dict.fromkeys(fact for name in names for fact in registry.facts_of(name, CAUTION, NO_ARTEFACT, DUPLICATE))
    return tuple(
        f"{', '.join(n for n in fact.experiments if n in names)}: {fact.text} ({fact.failure})" for fact in facts
    )
