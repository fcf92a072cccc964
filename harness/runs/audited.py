"""Asks of a run's audits what they must show: chosen by the rule, spread over each level, prefill and decode both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from harness.record import DECODE, PREFILL
from harness.runs.choice import STRATA, Trail
from harness.runs.store import Audit

PHASES = (PREFILL, DECODE)


def verified(audits: Iterable[Audit], trails: Mapping[int, Trail]) -> list[Audit]:
    """Return ``audits``, each with the problem that it was not chosen by the rule where that is so.

    ``trails`` holds the trail of the first n stored records for every n that a choice names.
    """
    return [audit if audit.choice is None else _verified(audit, trails) for audit in audits]


def _verified(audit: Audit, trails: Mapping[int, Trail]) -> Audit:
    choice = audit.choice
    assert choice is not None
    place = f"audit: batch {choice.place + 1} of {choice.of}"
    problems = []
    if choice.level != audit.level or trails.get(choice.trail.records) != choice.trail:
        problems.append(f"{place} was chosen from other records than the first {choice.trail.records} of this run")
    elif not choice.holds:
        problems.append(f"{place} was not chosen by the rule (docs/audits.md)")
    return replace(audit, problems=(*audit.problems, *problems))


def audit_problems(level: float, audits: Sequence[Audit], decoded: bool) -> list[str]:
    """Return what is missing from the ``audits`` of ``level``; ``decoded`` says that some answer took two forwards.

    Answers of one token leave nothing to audit in decode, also where others of the level are longer.
    """
    chosen = [audit for audit in audits if audit.choice is not None]
    seen = {phase: [audit for audit in chosen if audit.phase == phase] for phase in PHASES}
    if not any(audit.products for audit in seen[PREFILL]):
        return [f"level {level:g} was not audited"]
    problems = []
    silent = seen[DECODE] and not any(audit.forwards for audit in seen[DECODE])
    if decoded and not silent and not any(audit.products for audit in seen[DECODE]):
        problems.append(f"no decode step of level {level:g} was audited")
    return problems + _spread(level, chosen)


def _spread(level: float, chosen: Sequence[Audit]) -> list[str]:
    """Strata without an audit; a run that was stopped and resumed has counted its batches more than once."""
    choices = {audit.choice for audit in chosen if audit.choice is not None}
    counts = {choice.of for choice in choices}
    strata = {choice.stratum.start for choice in choices}
    if len(counts) == 1 and len(strata) < min(STRATA, *counts):
        wanted = min(STRATA, *counts)
        return [f"level {level:g} was audited in {len(strata)} of {wanted} parts: beginning, middle and end"]
    return []
