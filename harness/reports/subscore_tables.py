"""Tables of the scores of groups: the worst first, as many as are read, the rest counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.reports.page import Part, Table
from harness.reports.tables import bounds_text, percent

SHOWN = 12
"""Rows of a table."""
HEADER = ("group", "n", "accuracy %", "baseline %", "difference pp")
SPARE = ("baseline %", "accuracy %", "n")


def subscore_tables(found: Mapping[str, Any]) -> Iterator[Part]:
    """Yield a table for each level of :meth:`harness.gates.subscores.SubScores.to_json`, that of the highest level
    alone where there is no room for all (a terminal)."""
    levels = sorted({row["level"] for row in found["groups"]})
    for level in levels:
        rows = [row for row in found["groups"] if row["level"] == level]
        compared = any(row["difference"] is not None for row in rows)
        header = HEADER if compared else HEADER[:3]
        title = f"Groups at {100 * level:g} % (descriptive: no verdict rests on it)"
        texts = [_texts(row)[: len(header)] for row in rows[:SHOWN]]
        spare = [name for name in SPARE if name in header and (compared or name != "accuracy %")]
        legend = _legend(len(rows), found, compared)
        yield Table.of(title, header, texts, detail=level != levels[-1], spare=spare, legend=legend)


def _texts(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["group"],
        str(row["n"]),
        percent(row["accuracy"]),
        percent(row["baseline"]),
        percent(row["difference"], signed=True),
    )


def _legend(groups: int, found: Mapping[str, Any], compared: bool) -> str:
    rest = f"{groups - SHOWN} more groups in the JSON report. " if groups > SHOWN else ""
    fewer = f"{found['smaller']} groups of fewer than {found['least']} items are left out. "
    smaller = fewer if found["smaller"] else ""
    order = "largest loss" if compared else "lowest accuracy"
    bounds = bounds_text(found["alpha"])
    return (
        f"{order.capitalize()} first. {rest}{smaller}In brackets: {bounds} of each group by itself, its items"
        " independent, not adjusted for the number of groups."
    )
