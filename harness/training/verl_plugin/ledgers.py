"""Counts of many sites as one line for each operator and direction: what travels into a run's ledger (no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ADDED = ("calls", "rows", "elements", "changed", "nonfinite", "signal", "error")


def summarised(counts: Iterable[Mapping[str, Any]], sites: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return ``counts`` (:class:`harness.record.SiteCount` as dictionaries) added up by (op, direction, level).

    ``sites`` is how many sites were counted in each, ``missing`` and ``extra`` name what is not as planned by the list
    ``sites``; without one they are empty.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    names: dict[tuple[Any, ...], set[str]] = {}
    for count in counts:
        key = count["op"], count["direction"], count["level"]
        group = groups.setdefault(key, dict.fromkeys(ADDED, 0))
        for name in ADDED:
            group[name] += count[name]
        names.setdefault(key, set()).add(count["site"])
    planned = set(sites) if sites is not None else None
    found = []
    for key, group in groups.items():
        op, direction, level = key
        there = names[key]
        missing = sorted(planned - there) if planned is not None and ":" not in op else []
        extra = sorted(there - planned) if planned is not None and ":" not in op else []
        head = {"op": op, "direction": direction, "level": level, "sites": len(there)}
        found.append({**head, **group, "missing": missing, "extra": extra})
    return found


def changed(lines: Iterable[Mapping[str, Any]], direction: str | None = None) -> int:
    """Return how many elements were changed, in ``direction`` or in all."""
    return sum(line["changed"] for line in lines if direction in (None, line["direction"]))


def relative_error(lines: Iterable[Mapping[str, Any]]) -> float:
    """Return the root of error energy over signal energy, 0 where there is no signal."""
    given = list(lines)
    signal = sum(line["signal"] for line in given)
    return float((sum(line["error"] for line in given) / signal) ** 0.5) if signal else 0.0
