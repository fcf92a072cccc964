"""Counts of many sites as one line for each operator and direction: what travels into a run's ledger (no torch)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.record import NOISE
from harness.training.injection import HEAD

ADDED = ("calls", "rows", "elements", "changed", "nonfinite", "signal", "error")


def summarised(counts: Iterable[Mapping[str, Any]], sites: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return ``counts`` (:class:`harness.record.SiteCount` as dictionaries) added up by (kind, op, direction, level).

    ``sites`` is how many sites were counted in each, ``missing`` and ``extra`` name what is not as planned by the list
    ``sites``; without one they are empty. ``idle`` names the sites that have elements and changed none of them,
    ``fewest_rows`` are the rows of the site that has the fewest (the head left out, which need not see every token) and
    ``head_rows`` those of the head, None where there is none: a sum over sites hides one that sleeps.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    by_site: dict[tuple[Any, ...], dict[str, Counter[str]]] = {}
    for count in counts:
        key = count["kind"], count["op"], count["direction"], count["level"]
        group = groups.setdefault(key, dict.fromkeys(ADDED, 0))
        for name in ADDED:
            group[name] += count[name]
        site = by_site.setdefault(key, {}).setdefault(count["site"], Counter())
        site.update({name: count[name] for name in ("rows", "elements", "changed")})
    found = []
    for key, group in groups.items():
        there = by_site[key]
        head = dict(zip(("kind", "op", "direction", "level"), key, strict=True)) | {"sites": len(there)}
        planned = there.keys() if sites is None or not is_noise(head) else set(sites)
        missing, extra = sorted(planned - there.keys()), sorted(there.keys() - planned)
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


def is_noise(line: Mapping[str, Any]) -> bool:
    """Return whether ``line`` counts the noise and not a quantizer; ledgers of before had it in the operator's name."""
    return line["kind"] == NOISE if "kind" in line else ":" not in line["op"]


def of_noise(lines: Iterable[Mapping[str, Any]], direction: str) -> list[Mapping[str, Any]]:
    """Return the lines of the noise in ``direction``."""
    return [line for line in lines if is_noise(line) and line["direction"] == direction]


def changed(lines: Iterable[Mapping[str, Any]], direction: str | None = None) -> int:
    """Return how many elements were changed, in ``direction`` or in all."""
    return sum(line["changed"] for line in lines if direction in (None, line["direction"]))


def relative_error(lines: Iterable[Mapping[str, Any]]) -> float:
    """Return the root of error energy over signal energy, 0 where there is no signal."""
    given = list(lines)
    signal = sum(line["signal"] for line in given)
    return float((sum(line["error"] for line in given) / signal) ** 0.5) if signal else 0.0
