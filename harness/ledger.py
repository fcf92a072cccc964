"""What can be done with ledger counts once they are plain numbers: merge, require, keep as JSON (no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.exceptions import EvidenceError, HarnessError
from harness.record import SiteCount, kind_of

MAX_NAMED = 3


def merge(counts: Iterable[SiteCount], across_processes: bool = False) -> tuple[SiteCount, ...]:
    """Return counts of equal identity added up, in order of first appearance; with ``across_processes`` also those of
    different processes (the sum then names none)."""
    found: dict[tuple[Any, ...], SiteCount] = {}
    for count in counts:
        key = (*count.identity[:-1], "") if across_processes else count.identity
        found[key] = found[key] + count if key in found else count
    return tuple(found.values())


def to_json(counts: Iterable[SiteCount]) -> list[dict[str, Any]]:
    """Return plain dictionaries for JSON."""
    return [asdict(count) for count in counts]


def from_json(data: Sequence[Mapping[str, Any]]) -> tuple[SiteCount, ...]:
    """Return the inverse of :func:`to_json`, also of entries that were written without a kind. Raises
    :class:`HarnessError` for anything else."""
    try:
        return tuple(SiteCount(**{"kind": kind_of(str(entry.get("op"))), **entry}) for entry in data)
    except TypeError as error:
        raise HarnessError(f"ledger ({error})", "each entry has the fields of a site count", "write it again") from None


def require(  # noqa: PLR0913 - one keyword per field that a count can be chosen by, or must have
    counts: Iterable[SiteCount],
    *,
    site: str | None = None,
    op: str | None = None,
    layer: int | None = None,
    direction: str | None = None,
    phase: str | None = None,
    sites: int | None = None,
    calls: int | None = None,
    elements: int | None = None,
    effective: bool = True,
) -> tuple[SiteCount, ...]:
    """Return the counts chosen by ``site``, ``op``, ``layer``, ``direction`` and ``phase``, if they prove what is
    asked.

    ``sites`` is the exact number of different sites, ``calls`` and ``elements`` the exact totals over them; where
    none of the three is given, at least one call must have been counted. ``effective`` demands that every chosen
    count with non-zero elements changed some; ``effective=False`` that none changed any (the clean control).
    Raises :class:`EvidenceError` naming what was found instead: no evidence, no verdict.
    """
    asked = {"site": site, "op": op, "layer": layer, "direction": direction, "phase": phase}
    chosen = tuple(
        count
        for count in counts
        if all(value is None or getattr(count, name) == value for name, value in asked.items())
    )
    where = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None) or "all sites"
    found = {
        "sites": len({count.site for count in chosen}),
        "calls": sum(count.calls for count in chosen),
        "elements": sum(count.elements for count in chosen),
    }
    wanted = {"sites": sites, "calls": calls, "elements": elements}
    for name, number in wanted.items():
        if number is not None and found[name] != number:
            raise EvidenceError(f"ledger of {where}: {found[name]} {name}", f"{number} were required")
    if all(number is None for number in wanted.values()) and not found["calls"]:
        raise EvidenceError(f"ledger of {where}: nothing was counted", "at least one injection was required")
    if effective:
        wrong = [count.label for count in chosen if count.nonzero and not count.changed]
    else:
        wrong = [count.label for count in chosen if count.changed]
    if wrong:
        more = f" and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
        rule = "every one must change elements" if effective else "a clean control changes none"
        raise EvidenceError(
            f"ledger: {', '.join(wrong[:MAX_NAMED])}{more} changed {'none' if effective else 'some'}", rule
        )
    return chosen
