"""Turns ledger, audits and control of a run into its certificate. No evidence, no verdict.

The expected counts come from outside the injector: tokens in the records x sites in the plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.ledger import merge
from harness.record import (
    CERTIFIED,
    INVALID_EVIDENCE,
    Certificate,
    ControlResult,
    ItemResult,
    LevelCertificate,
    LikelihoodResult,
    SiteCount,
)
from harness.runs.audited import audit_problems
from harness.runs.manifest import PlannedSite
from harness.runs.store import Audit
from harness.spec.tokens import Span, overlap, spans_of
from harness.text import named
from harness.thresholds import EFFECT_MIN_ELEMENTS, effect_bounds

MAX_NAMED = 3


@dataclass(frozen=True)
class Fed:
    """What the records of one level have fed through the model, summed once for all sites.

    ``tokens`` were fed, ``steps`` of them went through the head; ``seen`` are (token, key) pairs: a token sees itself
    and all before it. Under a selection of tokens all three count selected rows alone: those of the layers, those of
    the head (the row of step k - 1 chooses token k), and the pairs of the former.
    """

    tokens: int
    steps: int
    seen: int

    @classmethod
    def of(cls, results: Iterable[ItemResult], tokens: Sequence[str] = ()) -> Fed:
        """Return the sums over ``results``, of the rows that ``tokens`` (:mod:`harness.spec.tokens`) select; all, where
        it is empty."""
        if tokens:
            return cls._selected([each for result in results for each in result.sequences], spans_of(tokens))
        lengths = [(result.fed, result.head_rows, result.seen) for result in results]
        return cls(*(sum(length[place] for length in lengths) for place in range(3)))

    @classmethod
    def _selected(cls, lengths: Sequence[tuple[int, int, int]], spans: Sequence[Span]) -> Fed:
        rows = steps = seen = 0
        for prompt, generated, head in lengths:
            for low, high in overlap(1 - prompt, generated - 1, spans):
                rows += high - low + 1
                # the row of a step sees prompt + step keys
                seen += (2 * prompt + low + high) * (high - low + 1) // 2
            steps += sum(high - low + 1 for low, high in overlap(head, generated - 1, spans))
        return cls(rows, steps, seen)


@dataclass(frozen=True)
class ExpectedSite(PlannedSite):
    """A planned site and what must be seen of it; ``least_changed`` is the least share of non-zero elements that noise
    must change (fraction); ``tokens`` are those to which the noise is limited, empty for all."""

    least_changed: float = 0.0
    tokens: tuple[str, ...] = ()

    def rows(self, fed: Fed) -> int:
        """Return token rows this site must have seen."""
        return (fed.steps if self.last_token_only else fed.tokens) * (self.per_token or 1)

    def elements(self, fed: Fed) -> int:
        """Return output elements this site must have perturbed."""
        return (fed.seen if self.grows else self.rows(fed)) * self.columns


def certify(
    expected: Sequence[ExpectedSite],
    results: Sequence[ItemResult],
    counts: Sequence[SiteCount],
    audits: Sequence[Audit],
    control: ControlResult | None,
    *,
    levels: Mapping[float, float | None],
    control_wanted: bool,
) -> Certificate:
    """Return the certificate of a run. Each level needs exact counts and an effective (at 0: no) perturbation.

    ``levels`` maps each level to the relative error (RMS) it must show, None where that depends on the data. Counts of
    several processes are added up; each site must have the expected total.
    """
    entries = []
    merged = merge(counts, across_processes=True)
    by_level: dict[float, list[ItemResult]] = {}
    for result in results:
        by_level.setdefault(result.level, []).append(result)
    for level, relative in levels.items():
        measured = by_level.get(level, [])
        seen = {count.label: count for count in merged if count.level == level}
        audited = [audit for audit in audits if audit.level == level]
        entries.append(_certify_level(_Level(level, relative), expected, measured, seen, audited))
    problems: list[str] = []
    if control is not None:
        problems += control.problems
    elif control_wanted:
        problems.append("the positive control has not run")
    valid = not problems and all(entry.valid for entry in entries)
    notes = _selection_notes(expected, results)
    return Certificate(CERTIFIED if valid else INVALID_EVIDENCE, tuple(entries), control, tuple(problems), notes=notes)


def _selection_notes(expected: Sequence[ExpectedSite], results: Sequence[ItemResult]) -> tuple[str, ...]:
    """What share of the rows that the records above level 0 fed the noise was limited to, and how many of the records
    had none of it, so that they show nothing; nothing where it was not limited."""
    tokens, noisy = (expected[0].tokens if expected else ()), [result for result in results if result.level]
    if not tokens or not noisy:
        return ()
    here, every = Fed.of(noisy, tokens).tokens, Fed.of(noisy).tokens
    share = f"{100 * here / every:.1f} %"
    told = f"noise at tokens:{','.join(tokens)} alone: {here:,} of {every:,} token rows of noisy sequences ({share})"
    spared = sum(Fed.of([result], tokens).tokens == 0 for result in noisy)
    return (told + (f"; {spared:,} of {len(noisy):,} noisy records had none, and show nothing" if spared else ""),)


@dataclass(frozen=True)
class _Level:
    """A noise level and the relative error (RMS) to expect at it, None where that depends on the data."""

    value: float
    relative: float | None


def _certify_level(
    asked: _Level,
    expected: Sequence[ExpectedSite],
    results: Sequence[ItemResult],
    seen: Mapping[str, SiteCount],
    audits: Sequence[Audit],
) -> LevelCertificate:
    tokens = expected[0].tokens if expected else ()
    level, fed = asked.value, Fed.of(results, tokens)
    problems: list[str] = []
    if not results:
        problems.append(f"level {level:g} has no records")
    if not expected:
        problems.append("the plan names no site, so nothing was injected")
    if level and results and tokens and not fed.tokens:
        problems.append(f"tokens:{','.join(tokens)} selects no token of {len(results)} records: nothing was injected")
    problems += count_problems(expected, fed, seen)
    problems += _effect_problems(asked, seen, {site.name: site.least_changed for site in expected})
    problems += [problem for audit in audits for problem in audit.problems]
    if results:
        problems += audit_problems(level, audits, any(result.decoded for result in results))
    ratios = [count.relative_rms for count in seen.values() if count.nonzero]
    ratios = [ratio for ratio in ratios if math.isfinite(ratio)] or [0.0]
    return LevelCertificate(
        level=level,
        sites=len(seen),
        expected_rows=sum(site.rows(fed) for site in expected),
        counted_rows=sum(count.rows for count in seen.values()),
        elements=sum(count.elements for count in seen.values()),
        changed=sum(count.changed for count in seen.values()),
        rms_low=min(ratios),
        rms_high=max(ratios),
        audited=sum(audit.products for audit in audits),
        problems=tuple(dict.fromkeys(problems)),
    )


def count_problems(expected: Sequence[ExpectedSite], fed: Fed, seen: Mapping[str, SiteCount]) -> list[str]:
    """Return where the counts ``seen`` (by site, of one level) are not those that ``fed`` leads to expect, in words."""
    wrong = []
    for site in expected:
        count = seen.get(site.name)
        rows, elements = (count.rows, count.elements) if count else (0, 0)
        wanted = site.rows(fed), site.elements(fed)
        if (rows, elements) != wanted:
            wrong.append(
                f"{site.name} counted {rows} rows and {elements} elements, expected {wanted[0]} and {wanted[1]}"
            )
    wrong += [f"{name} is not in the plan" for name in sorted(set(seen) - {site.name for site in expected})]
    return _named(wrong, "wrong injection count")


def _effect_problems(asked: _Level, seen: Mapping[str, SiteCount], least: Mapping[str, float]) -> list[str]:
    level, wrong = asked.value, []
    if level and asked.relative is None and seen and not any(count.changed for count in seen.values()):
        wrong.append(f"no site changed any of {sum(count.elements for count in seen.values())} elements")
    for name, count in seen.items():
        if count.nonfinite and (level == 0 or asked.relative is not None):  # a flipped bit may make infinity or NaN
            wrong.append(f"{name} gave {count.nonfinite} non-finite elements")
        if level == 0:
            if count.changed:
                wrong.append(f"{name} changed {count.changed} elements in the clean arm")
        elif asked.relative is None:
            continue  # how much changes depends on the data; the ledger says what did
        elif count.nonzero and not count.changed:
            wrong.append(f"{name} changed none of {count.elements} elements")
        elif count.nonzero >= EFFECT_MIN_ELEMENTS and count.changed < least.get(name, 0.0) * count.nonzero:
            wrong.append(f"{name} changed only {count.changed} of {count.nonzero} non-zero elements")
        elif count.nonzero:
            low, high = effect_bounds(count.nonzero)
            factor = count.relative_rms / asked.relative
            if not low <= factor <= high:
                wrong.append(
                    f"{name} reached {factor:.3f} of the requested {asked.relative:g} ({low:.3g} to {high:.3g} allowed)"
                )
        elif count.elements:
            wrong.append(f"{name} saw only zeros")
    return _named(wrong, "ineffective injection" if level else "noise in the clean arm")


def _named(wrong: Sequence[str], kind: str) -> list[str]:
    """At most three of them by name, the rest counted."""
    if len(wrong) > MAX_NAMED:
        return [f"{kind}: {'; '.join(wrong[:MAX_NAMED])}; and {len(wrong) - MAX_NAMED} more sites"]
    return [f"{kind}: {problem}" for problem in wrong]


def judge_control(
    clean: Sequence[ItemResult], noisy: Sequence[ItemResult], scale: float, at_floor: bool
) -> ControlResult:
    """Return the positive control: a lethal scale must lose at least half of the clean accuracy on the same items.

    ``clean`` and ``noisy`` hold one record of each item, of the same draw.

    Where the clean score is at the floor there is nothing to lose: then every output must change. Where continuations
    are scored, chance alone keeps a share of the accuracy: then every output must change, and away from the floor at
    least half of the items must have lost log-likelihood, summed over their requests.
    """
    before = {result.item: result for result in clean}
    missing = {result.item for result in noisy if result.item not in before}
    if missing or not noisy:
        what = f"{len(missing)} of its items have no clean record ({named(missing)})" if missing else "it has no record"
        return ControlResult(scale, len(noisy), 0, 0, 0, (f"positive control: {what}",))
    changed = sum(not before[result.item].same_answer(result) for result in noisy)
    clean_right = sum(before[result.item].score == 1.0 for result in noisy)
    noisy_right = sum(result.score == 1.0 for result in noisy)
    problems = []
    scored = [result for result in noisy if isinstance(result, LikelihoodResult)]
    if at_floor or clean_right == 0 or scored:
        if changed < len(noisy):
            problems.append(
                f"positive control: at scale {scale:g} only {changed} of {len(noisy)} outputs changed (all must)"
            )
        fell = sum(_nats(result) < _nats(before[result.item]) for result in scored)
        if scored and not at_floor and fell < len(scored) / 2:
            problems.append(
                f"positive control: scale {scale:g} lowered the log-likelihoods of {fell} of {len(scored)} items"
                " (at least half must fall)"
            )
    elif noisy_right > clean_right / 2:
        problems.append(
            f"positive control: scale {scale:g} left {noisy_right} of {clean_right} right answers"
            " (at most half may stay)"
        )
    return ControlResult(scale, len(noisy), clean_right, noisy_right, changed, tuple(problems))


def _nats(result: ItemResult) -> float:
    """The log-likelihood of all requests of an item together; what is not finite is lost."""
    assert isinstance(result, LikelihoodResult)
    return sum(-math.inf if each.nats is None else each.nats for each in result.requests)
