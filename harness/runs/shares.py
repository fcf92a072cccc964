"""Holds the share of elements that a run changed against the rate it was asked for (no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from harness.ledger import merge
from harness.record import CERTIFIED, INVALID_EVIDENCE, Certificate, ItemResult, SiteCount
from harness.stats.rates import improbable
from harness.thresholds import effect_bounds


def share_problems(counts: Iterable[SiteCount], share: float | None, alike: int = 1) -> list[str]:
    """Return what speaks against the number of elements that all sites of a level changed; ``share`` (fraction) were to
    change, None where that depends on the data.

    Rare faults need not show in the forwards that an audit sees; over a whole run their number must be that of their
    rate. Elements that were not finite before keep their bits, so that fewer than all may have had the chance.
    ``alike`` sequences of an item have the same draws, which is as many times less evidence.
    """
    found = tuple(counts)
    elements, changed = sum(each.elements for each in found), sum(each.changed for each in found)
    odd = sum(each.nonfinite for each in found)
    if not share or not elements:
        return []
    low, high = effect_bounds(elements)
    chances = elements - min(odd, elements)
    few = changed < low * share * chances and improbable(changed / alike, chances / alike, share)
    many = changed > high * share * elements and improbable(changed / alike, elements / alike, share)
    if not few and not many:
        return []
    return [f"ineffective injection: {changed} of {elements} elements changed, a share of {share:g} was asked for"]


def with_shares(
    certificate: Certificate,
    counts: Sequence[SiteCount],
    results: Sequence[ItemResult],
    shares: Mapping[float, float | None],
) -> Certificate:
    """Return ``certificate`` with every level whose number of changed elements is no chance of its share as a problem;
    ``shares`` maps levels to the share (fraction) that independent draws must change, None where it depends on data."""
    levels = []
    for entry in certificate.levels:
        own = merge((count for count in counts if count.level == entry.level), across_processes=True)
        alike = max((len(result.sequences) for result in results if result.level == entry.level), default=1)
        found = share_problems(own, shares.get(entry.level) if entry.level else None, max(1, alike))
        levels.append(replace(entry, problems=(*entry.problems, *found)))
    valid = certificate.status == CERTIFIED and all(entry.valid for entry in levels)
    return replace(certificate, status=CERTIFIED if valid else INVALID_EVIDENCE, levels=tuple(levels))
