"""The table of sampled answers: pass@k, pass^k and maj@k by level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.reports.page import Table
from harness.reports.tables import bounds_text, percent

LEGEND = (
    "pass@k: at least one of k sampled answers is right; pass^k: all are; maj@k: the most frequent one is (answers that"
    " could not be read abstain, ties count by their share). Estimated without bias from all samples of an item. In"
    " brackets: {bounds} over items, each row by itself; they describe and decide nothing."
)


def repeated_tables(levels: Sequence[Mapping[str, Any]], against: str, alpha: float) -> Iterator[Table]:
    """Yield the table of ``levels`` (JSON types), beside the side called ``against``; nothing where nothing was
    sampled."""
    rows = [_row(level["level"], row) for level in levels for row in level.get("repeated", ())]
    if not rows:
        return
    header = ("level", "measure", "k", "value %", f"{against} %", "difference pp")
    legend = LEGEND.format(bounds=bounds_text(alpha))
    yield Table.of("Sampled answers: k of each item's", header, rows, spare=header[4:], legend=legend)


def _row(level: float, row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{100 * level:g} %",
        row["measure"],
        str(row["k"]),
        percent(row["value"]),
        percent(row["against"]),
        percent(row["difference"], signed=True),
    )
