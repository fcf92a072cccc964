"""Holds what the auditor inside vLLM's processes saw against the ledger and against vLLM's own layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.integrations.vllm_plugin.payload import revision
from harness.record import DECODE, PREFILL, SiteCount
from harness.runs.choice import Choice
from harness.runs.store import Audit
from harness.thresholds import effect_bounds

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """Why the batch was audited, and the relative error (RMS) it must show; None where that depends on data.
    ``limited`` says that the noise is limited to some tokens, so that a phase may have none."""

    choice: Choice
    relative: float | None
    limited: bool = False

    @property
    def level(self) -> float:
        """Return the level of the audited batch."""
        return self.choice.level


def merge_reports(seen: Sequence[Mapping[str, Numbers]]) -> dict[str, dict[str, Any]]:
    """Return the numbers of several processes added up, phase by phase, and what each reports about its draws."""
    return {
        phase: {name: _merged([report[phase][name] for report in seen]) for name in seen[0][phase]} for phase in seen[0]
    }


def _merged(values: Sequence[Any]) -> Any:
    if isinstance(values[0], list):
        return [words for value in values for words in value]
    return sum(values)


def check_engine_audit(
    seen: Mapping[str, Numbers],
    reports: Sequence[Mapping[str, Any]],
    counts: Sequence[SiteCount],
    work: Mapping[str, int],
    asked: Asked,
) -> tuple[Audit, ...]:
    """Return the audits of a batch that ran alone, at one level: one for each phase.

    ``seen`` is the auditor's count, ``reports`` what the processes said when they were attached, ``counts`` their
    ledger of the batch, ``work`` how many forwards it took and the rows in them that do not count. Every linear layer
    of vLLM must have multiplied once in each forward, every one that the plan names must have handed its result to the
    operator, with as many rows as the ledger has, and what came back must show the error that was asked for.
    """
    body, heads = ([site for report in reports for site in report[part]] for part in ("linears", "heads"))
    rows = {count.site: count.rows for count in counts}
    calls = work.get("scored", 0)
    booked = sum(rows.get(site, 0) for site in body + heads) + work["body"] * len(body) + work["head"] * len(heads)
    whole = [
        f"audit: {found} {what}, expected {wanted}"
        for what, found, wanted in (
            ("forwards were seen", sum(numbers["forwards"] for numbers in seen.values()), work["forwards"]),
            ("rows of products went through the operator", sum(n["rows"] for n in seen.values()), booked),
        )
        if found != wanted
    ]
    audits = []
    for phase in (PREFILL, DECODE):
        more = calls if phase == PREFILL else 0
        linears = len(body + heads) * seen[phase]["forwards"] + len(heads) * more
        found = [f"audit: {phase}: {words}" for words in _problems(seen[phase], reports, linears, more, asked)]
        problems = (*whole, *found) if phase == PREFILL else tuple(found)
        numbers = seen[phase]
        audits.append(Audit(asked.level, numbers["products"], problems, phase, numbers["forwards"], asked.choice))
    return tuple(audits)


def _problems(
    seen: Numbers, reports: Sequence[Mapping[str, Any]], linears: int, scored: int, asked: Asked
) -> Iterator[str]:
    """What the forwards of one phase show: ``linears`` perturbed products, and ``scored`` calls of the head beside the
    one of each forward."""
    forwards = seen["forwards"]
    products = sum(report["layers"] for report in reports) * forwards + scored
    # the products of adapters run in operators of vLLM's own, whose number is its affair
    least = min(seen["products"], products) if any(report["adapters"] for report in reports) else None
    for what, found, wanted in (
        ("products ran", seen["products"] if least is None else least, products),
        ("products went through the operator", seen["matched"], linears),
        ("elements differ in columns or tokens that the plan leaves alone", seen["strays"], 0),
    ):
        if found != wanted:
            yield f"{found} {what}, expected {wanted}"
    if not asked.level and seen["changed"]:
        yield f"{seen['changed']} elements differ from their product in the clean arm"
    idle = asked.limited and not seen["selected"]
    if asked.relative is not None and linears and forwards and not idle:
        achieved = (seen["squared"] / seen["nonzero"]) ** 0.5 if seen["nonzero"] else 0.0
        low, high = effect_bounds(seen["nonzero"])
        if not seen["nonzero"] or not low * asked.relative <= achieved <= high * asked.relative:
            yield f"products show a relative error of {achieved:.3g}, {asked.relative:g} was asked for"
    yield from seen["draws"]


def work_of(drained: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return what all processes together did."""
    return {name: sum(report[name] for report in drained) for name in ("forwards", "body", "head", "scored")}


def report_problems(report: Mapping[str, Any]) -> list[str]:
    """Return what speaks against a process, by what it says of itself."""
    found = list(report["problems"])
    if report["revision"] != revision():
        found.append("it runs another revision of the noise code")
    return found
