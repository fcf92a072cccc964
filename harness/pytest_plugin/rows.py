"""What one judged level looks like: a row as JSON types, shown in the terminal, in Markdown and as JUnit (no torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.reports.page import Lines, Page, Prose, Table
from harness.reports.tables import bounds_text, bracketed, percent
from harness.thresholds import ALPHA

PROPERTY, VERDICT_PROPERTY = "robustness", "robustness_verdict"
"""Names of the test's properties, also in ``--junitxml``: the row as JSON, and its first words."""

NATS = "nats"
"""Unit of a row on texts: what is lost a token, where the others have a difference in fractions."""

TITLE = "Robustness"
HEADER = ("level", "verdict", "n", "difference pp", "limit pp", "against", "certificate")
SPARE = ("certificate", "against", "n")


def points(row: Mapping[str, Any]) -> str:
    """Return ``level 5 %: -6.0 [-9.1, -3.2] pp against clean, limit -3 pp, n 200``."""
    if _is_nats(row):
        return (
            f"level {100 * row['level']:g} %: {difference(row)} lost against {row['against']},"
            f" limit {row['limit']:g} nats, n {row['n']}"
        )
    return (
        f"level {100 * row['level']:g} %: {difference(row)} pp against {row['against']},"
        f" limit {-100 * row['limit']:zg} pp, n {row['n']}"
    )


def difference(row: Mapping[str, Any]) -> str:
    """Return ``-6.0 [-9.1, -3.2]`` in points, ``+0.0120 [+0.0080, +0.0160] nats`` of texts; a dash where undefined."""
    if _is_nats(row):
        return "-" if row["difference"] is None else f"{bracketed(row['difference'], 4, signed=True)} nats"
    return percent(row["difference"], signed=True)


def _is_nats(row: Mapping[str, Any]) -> bool:
    return row.get("unit") == NATS


def ordered(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the comparisons by run, what it is held against, and level."""
    return sorted(rows, key=lambda row: (row["run"], row["against"], row["level"]))


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the row under :data:`HEADER`."""
    return (
        f"{100 * row['level']:g} %",
        row["verdict"],
        str(row["n"]),
        difference(row),
        f"{row['limit']:g} nats" if _is_nats(row) else f"{-100 * row['limit']:zg}",
        row["against"],
        row["certificate"],
    )


def notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what certificates and gates want said first, each once, with the run."""
    return list(dict.fromkeys(f"{row['run']}: {note}" for row in ordered(rows) for note in row["notes"]))


def _legend(rows: Sequence[Mapping[str, Any]]) -> str:
    alphas = sorted({row.get("alpha", ALPHA) for row in rows})
    return f"In brackets: {' or '.join(map(bounds_text, alphas))}. n: items measured on both sides."


def session_page(rows: Sequence[Mapping[str, Any]]) -> Page:
    """Return the page of a test session: notes, a row for each judged level, and in documents the reasons."""
    found = ordered(rows)
    if not found:
        return Page.of(TITLE, Prose("Nothing was judged."))
    reasons = [f"{row['verdict']} {points(row)}: {'; '.join(row['reasons'])} ({row['test']})" for row in found]
    table = Table.of("", HEADER, [cells(row) for row in found], spare=SPARE, legend=_legend(found))
    return Page.of(TITLE, table, Lines.of(reasons, detail=True), notes=notes(found))
