"""The page of a gate on distributions: a row for each level, reasons, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.reports.page import Lines, Page, Table, Verdict

HEADER = (
    *("level", "verdict", "items", "tokens", "divergence nats/token", "left out at most", "skewness"),
    *("log-probability change", "same top token %"),
)
SPARE = ("skewness", "left out at most", "tokens", "log-probability change", "same top token %", "items")


def divergence_page(found: Mapping[str, Any]) -> Page:
    """Return the page of :meth:`harness.library.divergence.Diverged.to_json`."""
    title = title_of(found)
    verdict = Verdict(found["verdict"], found["family"], found["reference"])
    return Page.of(f"{found['verdict']}: {title}", *divergence_parts(found), notes=found["notes"], verdict=verdict)


def title_of(found: Mapping[str, Any]) -> str:
    """Return against what it was judged, and by which margin."""
    own = [f"{margin:g} at {100 * level:g} %" for level, margin in found.get("margins", ())]
    margins = ", ".join([f"{found['margin']:g}", *own])
    return f"Distributions against {found['reference']}, margin {margins} nats a token"


def divergence_parts(found: Mapping[str, Any], what: str = "") -> tuple[Table, Lines]:
    """Return the table of levels and why each has its verdict; ``what`` stands before each reason."""
    levels = found["levels"]
    legend = (
        f"Brackets: one-sided {100 * (1 - found['alpha']):g} % bounds of the mean over items, by Hall's t, which is"
        " corrected for skewness. Divergence: Kullback-Leibler, reference from candidate, over the kept tokens and the"
        " rest as one; left out at most: what that can hide. Change: candidate less reference, of the scored token."
    )
    table = Table.of(title_of(found), HEADER, [_row(level) for level in levels], spare=SPARE, legend=legend)
    reasons = [f"{what}{100 * level['level']:g} %: {reason}" for level in levels for reason in level["reasons"]]
    return table, Lines.of(reasons)


def _row(level: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{100 * level['level']:g} %",
        level["verdict"],
        str(level["items"]),
        str(level["tokens"]),
        _interval(level["divergence"], "{:.4g}"),
        "-" if level["short"] is None else f"{level['short']:.2g}",
        "-" if level["skewness"] is None else f"{level['skewness']:.1f}",
        _interval(level["change"], "{:+.4g}"),
        _interval(level["same"], "{:.1f}", 100),
    )


def _interval(found: Mapping[str, Any] | None, form: str, scale: float = 1) -> str:
    """``estimate [low, high]``; ``-`` for a bound that is not known."""
    if found is None:
        return "-"
    estimate, low, high = (
        "-" if found[name] is None else form.format(scale * found[name]) for name in ("estimate", "low", "high")
    )
    return f"{estimate} [{low}, {high}]"
