"""The table of a gate on log-likelihoods of texts: what the candidate lost at each level, in nats a token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.gates.perplexity import is_continuous
from harness.reports.page import Table
from harness.reports.tables import bounds_text, bracketed
from harness.thresholds import ALPHA

NATS_HEADER = (
    *("level", "verdict", "documents", "nats / token", "baseline", "lost, nats / token", "perplexity times", "margin"),
)
NATS_SPARE = ("baseline", "nats / token", "perplexity times", "documents")
TITLE = "Log-likelihood lost"


def judges_texts(gate: Mapping[str, Any]) -> bool:
    """Return whether ``gate`` (:meth:`harness.gates.GateResult.to_json`) is one on log-likelihoods of texts."""
    return "baseline" in gate and is_continuous(gate["baseline"]["key"])


def nats_rows(gate: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return one row for each level of ``gate`` under :data:`NATS_HEADER`."""
    return [(f"{100 * level['level']:g} %", level["verdict"], *_cells(level)) for level in gate["levels"]]


def nats_table(gates: Sequence[tuple[str, Mapping[str, Any]]], title: str, tasks: bool = False) -> Table:
    """Return the table of several ``gates`` (task, gate), with a column of their tasks where asked for."""
    rows = [(task, *row) if tasks else row for task, gate in gates for row in nats_rows(gate)]
    header = ("task", *NATS_HEADER) if tasks else NATS_HEADER
    return Table.of(title, header, rows, spare=NATS_SPARE, legend=_legend(gates[0][1]))


def _cells(level: Mapping[str, Any]) -> tuple[str, ...]:
    found = level.get("nats")
    if found is None:
        return ("-",) * (len(NATS_HEADER) - 2)
    return (
        f"{level['n']:,}",
        f"{found['candidate']:.4f}",
        f"{found['baseline']:.4f}",
        bracketed(found["lost"], 4, signed=True),
        "-" if found["lost"]["estimate"] is None else f"{_times(found['lost']['estimate']):.4g}",
        f"{found['margin']:g}",
    )


def _times(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf


def _legend(gate: Mapping[str, Any]) -> str:
    alpha = gate.get("alpha", {}).get("difference", ALPHA)
    return (
        f"In brackets: {bounds_text(alpha)} over documents, or clusters of them, by Student's t corrected for skewness."
        " Lost: log-likelihood against the baseline, document by document, of all tokens alike. Perplexity times: what"
        " that makes of the perplexity by token."
    )
