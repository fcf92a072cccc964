"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.record import SiteCount
from harness.reports.tables import (
    GATE_HEADER,
    LEDGER_HEADER,
    LEVEL_HEADER,
    certificate_lines,
    gate_rows,
    ledger_rows,
    level_rows,
    reason_lines,
)

STYLES = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow", "INVALID": "bold magenta"}
SITE_HEADER = ("level", "site", "operator", "calls", "token rows", "elements", "changed", "dy/y RMS")


def print_run(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Levels, certificate and ledger summary of a run."""
    console = console or _console()
    console.print(_table("Accuracy by noise level", LEVEL_HEADER, level_rows(report)))
    if report["ledger"]:
        console.print(_table("Ledger: what was really perturbed", LEDGER_HEADER, ledger_rows(report["ledger"])))
    _lines(console, certificate_lines(report["certificate"]))


def print_gate(gate: Mapping[str, Any], console: Console | None = None) -> None:
    """Verdict, table of levels and reasons of a gate."""
    console = console or _console()
    console.print(_table(f"Gate against {gate['baseline']['label']}", GATE_HEADER, gate_rows(gate)))
    _lines(console, reason_lines(gate))
    console.print(f"verdict: {_styled(gate['verdict'])}  ({escape(gate['family'])})", soft_wrap=True)


def print_ledger(counts: Sequence[SiteCount], console: Console | None = None) -> None:
    """Every site of the ledger."""
    rows = [
        (
            f"{100 * count.level:g} %",
            count.site,
            count.op,
            *(f"{number:,}" for number in (count.calls, count.rows, count.elements, count.changed)),
            f"{count.relative_rms:.4f}",
        )
        for count in counts
    ]
    (console or _console()).print(_table("Ledger by site", SITE_HEADER, rows))


def _console() -> Console:
    """Wide enough for every table where the output is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=180)


def _lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)


def _styled(verdict: str) -> str:
    return f"[{STYLES[verdict]}]{verdict}[/]"


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Cells as they are, without markup, folded and never cut where the terminal is narrow; verdicts in colour."""
    table = Table(title=escape(title), title_justify="left")
    for column in header:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in row))
    return table
