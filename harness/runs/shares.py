"""Holds the share of elements that a run changed against the rate it was asked for (no torch)."""

from __future__ import annotations

from collections.abc import Iterable

from harness.record import SiteCount
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
