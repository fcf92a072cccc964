"""Which claims a run of published experiments feeds: those with one of them as an arm or as a reference."""

from __future__ import annotations

from collections.abc import Iterable

from harness.claims.model import Registry


def claims_fed(registry: Registry, experiments: Iterable[str], label: str = "") -> tuple[str, ...]:
    """Return the ids of the claims that rest on any of ``experiments``, in the order of the registry.

    An arm of the pre-registered theory called ``label`` follows as ``theory LABEL``.
    """
    wanted = set(experiments)
    found = [
        claim.id
        for claim in registry.claims
        if any(wanted & set(comparison.experiments) for comparison in claim.comparisons)
    ]
    return (*found, *(f"theory {arm.name}" for arm in registry.theory if arm.name == label))
