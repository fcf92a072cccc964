"""Whether the parts of a baseline file follow from each other (no torch)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.record import CERTIFIED, EXTERNAL, Arm, Certificate, Outcome, TextOutcome
from harness.spec import number_text
from harness.votes import contradicts

Outcomes = Mapping[float, Mapping[str, Mapping[int, Outcome]]]


def level_sums(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """Return per level the number of items, of records and of right ones; of texts the sum of their nats."""
    found: dict[str, dict[str, float]] = {}
    for level, rows in sorted(outcomes.items()):
        cells = [outcome for row in rows.values() for outcome in row.values()]
        found[number_text(level)] = {"items": len(rows), "records": len(cells)} | _sum(cells)
    return found


def _sum(cells: Sequence[Outcome]) -> dict[str, float]:
    texts = [outcome.nats for outcome in cells if isinstance(outcome, TextOutcome) and outcome.nats is not None]
    return {"nats": math.fsum(texts)} if texts else {"right": sum(outcome.score == 1.0 for outcome in cells)}


def contradictions(data: Mapping[str, Any], arm: Arm) -> tuple[str, ...]:
    """Return what in the file ``data``, read as ``arm``, does not follow from the rest; empty for a sound file."""
    found = [] if data["sums"] == level_sums(arm.outcomes) else ["its sums are not those of its items"]
    if any(contradicts(votes, arm.outcomes.get(level, {})) for level, votes in arm.votes.items()):
        found.append("its votes are not those of its items")
    if arm.certificate.status == CERTIFIED:
        found += _of_certificate(arm.certificate, arm.outcomes, data["measurement_key"])
    elif arm.certificate.status == EXTERNAL:
        found += ["an external baseline has no ledger"] if arm.certificate.levels else []
    else:
        found.append(f"its certificate is {arm.certificate.status!r}, and such a run is not accepted")
    return tuple(found)


def _of_certificate(certificate: Certificate, outcomes: Outcomes, key: Mapping[str, str]) -> Iterator[str]:
    levels = {entry.level: entry for entry in certificate.levels}
    if certificate.problems or any(entry.problems for entry in certificate.levels):
        yield "its certificate is certified and has problems"
    if set(levels) != set(outcomes):
        yield "its certificate is not of the levels of its items"
    if certificate.coverage is None or certificate.coverage.text != key.get("coverage"):
        yield "its certificate's coverage is not that of its measurement key"
    for level, entry in levels.items():
        where = f"its certificate at level {level:g}"
        if not entry.sites:
            yield f"{where} has no sites"
        elif certificate.coverage is not None and entry.sites != certificate.coverage.sites:
            yield f"{where} has {entry.sites} sites, its coverage {certificate.coverage.sites}"
        if entry.counted_rows != entry.expected_rows or entry.counted_rows < _records(outcomes, level):
            yield f"{where} counts {entry.counted_rows} token rows, {entry.expected_rows} expected"
        if not entry.audited:
            yield f"{where} was not audited"
        if bool(entry.changed) is not bool(level):
            yield f"{where} changed {entry.changed} elements"


def _records(outcomes: Outcomes, level: float) -> int:
    return sum(len(row) for row in outcomes.get(level, {}).values())
