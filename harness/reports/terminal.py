"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from harness.record import SiteCount
from harness.reports.layout import STYLES, print_lines, print_table, stdout_console
from harness.reports.tables import (
    GATE_HEADER,
    LEDGER_HEADER,
    LEVEL_HEADER,
    SEEN_HEADER,
    certificate_lines,
    gate_rows,
    ledger_rows,
    level_rows,
    reason_lines,
    seen_rows,
)


def print_run(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Levels, certificate and ledger summary of a run."""
    console = console or stdout_console()
    print_lines(console, report["notes"])
    print_table(console, "Accuracy by noise level", LEVEL_HEADER, level_rows(report))
    if report["ledger"]:
        print_sums(report["ledger"], console)
    print_lines(console, certificate_lines(report["certificate"]))


def print_gate(gate: Mapping[str, Any], console: Console | None = None) -> None:
    """Verdict, table of levels and reasons of a gate."""
    console = console or stdout_console()
    print_lines(console, [*gate["notes"], *([gate["attempts"]] if gate.get("attempts") else [])])
    print_table(console, f"Gate against {gate['baseline']['label']}", GATE_HEADER, gate_rows(gate))
    print_lines(console, reason_lines(gate))
    console.print(f"verdict: {_styled(gate['verdict'])}  ({escape(gate['family'])})", soft_wrap=True)


def print_sums(ledger: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """The ledger summed by operator and direction."""
    console = console or stdout_console()
    print_table(console, "Ledger: what was really perturbed", LEDGER_HEADER, ledger_rows(ledger))


def print_ledger(counts: Sequence[SiteCount], console: Console | None = None) -> None:
    """Every entry of the ledger, as each process counted it."""
    print_table(console or stdout_console(), "Ledger by site", SEEN_HEADER, seen_rows(counts))


def _styled(verdict: str) -> str:
    return f"[{STYLES[verdict]}]{verdict}[/]"
