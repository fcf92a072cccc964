"""Holds what the auditor inside vLLM's processes saw against the ledger and against vLLM's own layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.record import SiteCount
from harness.runs.store import Audit
from harness.thresholds import effect_bounds


@dataclass(frozen=True)
class Asked:
    """The level of the audited batch, and the relative error (RMS) it must show; None where that depends on data."""

    level: float
    relative: float | None


def merge_reports(seen: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """The numbers of several processes added up."""
    found: Counter[str] = Counter()
    for report in seen:
        found.update(report)
    return found


def check_engine_audit(
    seen: Mapping[str, Any],
    reports: Sequence[Mapping[str, Any]],
    counts: Sequence[SiteCount],
    work: Mapping[str, int],
    asked: Asked,
) -> Audit:
    """The audit of a batch that ran alone, at one level.

    ``seen`` is the auditor's count, ``reports`` what the processes said when they were attached, ``counts`` their
    ledger of the batch, ``work`` how many forwards it took and the rows in them that do not count. Every linear layer
    of vLLM must have multiplied once in each forward, every one that the plan names must have handed its result to the
    operator, with as many rows as the ledger has, and what came back must show the error that was asked for.
    """
    layers = sum(report["layers"] for report in reports)
    body, heads = ([site for report in reports for site in report[part]] for part in ("linears", "heads"))
    linears, forwards = body + heads, work["forwards"]
    rows = {count.site: count.rows for count in counts}
    booked = sum(rows.get(site, 0) for site in linears) + work["body"] * len(body) + work["head"] * len(heads)
    # the products of adapters run in operators of vLLM's own, whose number is its affair
    least = min(seen["products"], layers * forwards) if any(report["adapters"] for report in reports) else None
    problems = []
    for what, found, wanted in (
        ("products ran", seen["products"] if least is None else least, layers * forwards),
        ("products went through the operator", seen["matched"], len(linears) * forwards),
        ("rows of them went through it", seen["rows"], booked),
        ("elements differ in columns that the plan leaves alone", seen["strays"], 0),
    ):
        if found != wanted:
            problems.append(f"audit: {found} {what}, expected {wanted}")
    if not asked.level and seen["changed"]:
        problems.append(f"audit: {seen['changed']} elements differ from their product in the clean arm")
    if asked.relative is not None and linears:
        achieved = (seen["squared"] / seen["nonzero"]) ** 0.5 if seen["nonzero"] else 0.0
        low, high = effect_bounds(seen["nonzero"])
        if not seen["nonzero"] or not low * asked.relative <= achieved <= high * asked.relative:
            problems.append(
                f"audit: products show a relative error of {achieved:.3g}, {asked.relative:g} was asked for"
            )
    return Audit(asked.level, seen["products"], tuple(problems))
