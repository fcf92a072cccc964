"""The page of a gate: notes, a row for each level, reasons, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.reports.divergence_page import divergence_parts
from harness.reports.nats_tables import TITLE, judges_texts, nats_table
from harness.reports.page import Lines, Page, Part, Table, Verdict
from harness.reports.repeated_table import repeated_tables
from harness.reports.subscore_tables import subscore_tables
from harness.reports.tables import GATE_HEADER, GATE_SPARE, gate_legend, gate_rows, reason_lines
from harness.thresholds import ALPHA


def gate_page(gate: Mapping[str, Any]) -> Page:
    """Return the page of a gate (:meth:`harness.library.gate.Gated.to_json`)."""
    attempts = gate.get("attempts")
    notes = [*gate["notes"], *([attempts] if attempts else [])]
    title = f"{gate['verdict']} against {gate['baseline']['label']}"
    return Page.of(title, *gate_parts(gate), notes=notes, verdict=verdict_of(gate))


def gate_parts(gate: Mapping[str, Any]) -> tuple[Part, ...]:
    """Return the table of levels and why each has its verdict, and the same of distributions where they were judged."""
    beside = divergence_parts(gate["divergence"], "distributions, ") if "divergence" in gate else ()
    if beside and not gate["levels"]:  # the distributions decided, and no answers were generated
        return *beside, Lines.of(gate["reasons"])
    if judges_texts(gate):
        return nats_table([("", gate)], f"{TITLE}, against {gate['baseline']['label']}"), Lines.of(reason_lines(gate))
    title = f"Gate against {gate['baseline']['label']}"
    table = Table.of(title, GATE_HEADER, gate_rows(gate), spare=GATE_SPARE, legend=gate_legend(gate))
    alpha = gate.get("alpha", {}).get("accuracy", ALPHA)
    groups = subscore_tables(gate["subscores"]) if "subscores" in gate else ()
    return table, *repeated_tables(gate["levels"], "baseline", alpha), *groups, *beside, Lines.of(reason_lines(gate))


def verdict_of(gate: Mapping[str, Any]) -> Verdict:
    """Return the verdict with the family of tests that it rests on."""
    return Verdict(gate["verdict"], gate["family"], gate["baseline"]["label"])
