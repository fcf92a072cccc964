"""Counts of many sites as one line for each operator and direction: what travels into a run's ledger (no torch)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.training.injection import HEAD

ADDED = ("calls", "rows", "elements", "changed", "nonfinite", "signal", "error")


def summarised(counts: Iterable[Mapping[str, Any]], sites: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return ``counts`` (:class:`harness.record.SiteCount` as dictionaries) added up by (op, direction, level).

    ``sites`` is how many sites were counted in each, ``missing`` and ``extra`` name what is not as planned by the list
    ``sites``; without one they are empty. ``idle`` names the sites that have elements and changed none of them,
    ``fewest_rows`` are the rows of the site that has the fewest (the head left out, which need not see every token) and
    ``head_rows`` those of the head, None where there is none: a sum over sites hides one that sleeps.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    by_site: dict[tuple[Any, ...], dict[str, Counter[str]]] = {}
    for count in counts:
        key = count["op"], count["direction"], count["level"]
        group = groups.setdefault(key, dict.fromkeys(ADDED, 0))
        for name in ADDED:
            group[name] += count[name]
        site = by_site.setdefault(key, {}).setdefault(count["site"], Counter())
        site.update({name: count[name] for name in ("rows", "elements", "changed")})
    planned = set(sites) if sites is not None else None
    found = []
    for key, group in groups.items():
        op, direction, level = key
        there = by_site[key]
        missing = sorted(planned - there.keys()) if planned is not None and ":" not in op else []
        extra = sorted(there.keys() - planned) if planned is not None and ":" not in op else []
        head = {"op": op, "direction": direction, "level": level, "sites": len(there)}
        found.append({**head, **group, "missing": missing, "extra": extra, **_least(there)})
    return found


def _least(sites: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """What the sums over ``sites`` hide: those that changed nothing, and the rows of the one with the fewest."""
    heads = {name for name in sites if name.rpartition(".")[2] == HEAD}
    return {
        "idle": sorted(name for name, each in sites.items() if each["elements"] and not each["changed"]),
        "fewest_rows": min((each["rows"] for name, each in sites.items() if name not in heads), default=None),
        "head_rows": sum(sites[name]["rows"] for name in heads) if heads else None,
    }


def changed(lines: Iterable[Mapping[str, Any]], direction: str | None = None) -> int:
    """Return how many elements were changed, in ``direction`` or in all."""
    return sum(line["changed"] for line in lines if direction in (None, line["direction"]))


def relative_error(lines: Iterable[Mapping[str, Any]]) -> float:
    """Return the root of error energy over signal energy, 0 where there is no signal."""
    given = list(lines)
    signal = sum(line["signal"] for line in given)
    return float((sum(line["error"] for line in given) / signal) ** 0.5) if signal else 0.0
