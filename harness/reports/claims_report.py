"""The page of judged claims: one dictionary, the terminal's tables, Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.claims.effective import Spread
from harness.claims.judgements import VERDICTS, Judgement
from harness.reports.claims_tables import (
    ARM_HEADER,
    CLAIM_HEADER,
    CRITERION_HEADER,
    HOW,
    REPLICATE_HEADER,
    VERDICT_WORDS,
    arm_rows,
    claim_rows,
    comparison_lines,
    criterion_rows,
    grouped,
    replicate_rows,
    settle_line,
    spread_line,
    summary_line,
    theory_lines,
)
from harness.reports.layout import print_lines, print_table, stdout_console
from harness.reports.markdown_parts import table_lines
from harness.runs.folder import guarded, write_atomically

SCHEMA_VERSION = 1


def claims_report(judgements: Sequence[Judgement], spread: Spread) -> dict[str, Any]:
    """Strict JSON: ``schema_version``, ``summary`` (verdict -> count), ``claims``, ``replicates``."""
    counts = {verdict: sum(one.verdict == verdict for one in judgements) for verdict in VERDICTS}
    return {
        "schema_version": SCHEMA_VERSION,
        "summary": {verdict: count for verdict, count in counts.items() if count},
        "claims": [judgement.to_json() for judgement in judgements],
        "replicates": spread.to_json(),
    }


def print_claims(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Tables by verdict, the groups of replicates, and the counts."""
    console = console or stdout_console()
    for verdict, claims in grouped(report):
        title = f"{verdict} ({len(claims)}): {VERDICT_WORDS[verdict]}"
        print_table(console, title, CLAIM_HEADER, claim_rows(claims))
        console.print()
    if report["replicates"]["groups"]:
        title = "Accidental replicates: experiments with one effective configuration"
        print_table(console, title, REPLICATE_HEADER, replicate_rows(report))
    print_lines(console, [spread_line(report), HOW, summary_line(report)])


def print_claim(claim: Mapping[str, Any], report: Mapping[str, Any], console: Console | None = None) -> None:
    """One claim in full: every comparison with its arms, values and readings, what would settle it, cautions."""
    console = console or stdout_console()
    print_lines(console, _headline(claim))
    for number, comparison in enumerate(claim["comparisons"], 1):
        console.print()
        if comparison["arms"]:
            print_table(console, _title(number, comparison), ARM_HEADER, arm_rows(comparison))
        else:
            print_lines(console, [_title(number, comparison)])
        print_lines(console, comparison_lines(comparison))
    console.print()
    print_lines(console, [*(f"note: {line}" for line in claim["cautions"]), settle_line(claim), spread_line(report)])


def print_theory(theory: Mapping[str, Any], console: Console | None = None) -> None:
    """The criteria of the pre-registered theory, statement by statement."""
    console = console or stdout_console()
    title = "Gradient against activation noise: criteria fixed beforehand (points)"
    print_table(console, title, CRITERION_HEADER, criterion_rows(theory))
    print_lines(console, theory_lines(theory))


def write_claims(path: Path, report: Mapping[str, Any]) -> None:
    """Writes the page as Markdown, atomically. Raises :class:`harness.exceptions.HarnessError` where it cannot."""
    with guarded(path):
        write_atomically(path, markdown(report))


def markdown(report: Mapping[str, Any]) -> str:
    """The page as Markdown text."""
    parts = ["# Published claims, judged", "", summary_line(report), "", spread_line(report), "", HOW, ""]
    for verdict, claims in grouped(report):
        parts += [f"## {verdict} ({len(claims)})", "", f"{VERDICT_WORDS[verdict]}.", ""]
        parts += [*table_lines(CLAIM_HEADER, claim_rows(claims)), ""]
    if report["replicates"]["groups"]:
        parts += ["## Accidental replicates", "", *table_lines(REPLICATE_HEADER, replicate_rows(report)), ""]
    parts += ["## Claims in full", ""]
    for claim in report["claims"]:
        parts += [
            f"### {claim['id']}",
            "",
            "; ".join(_headline(claim)[:1]),
            "",
            *(f"- {line}" for line in _headline(claim)[1:]),
            "",
        ]
        for number, comparison in enumerate(claim["comparisons"], 1):
            parts += [f"{_title(number, comparison)}:", ""]
            parts += [*table_lines(ARM_HEADER, arm_rows(comparison)), ""] if comparison["arms"] else []
            parts += [*(f"- {line}" for line in comparison_lines(comparison)), ""]
        parts += [*(f"- note: {line}" for line in claim["cautions"]), f"- {settle_line(claim)}", ""]
    return "\n".join(parts)


def _headline(claim: Mapping[str, Any]) -> list[str]:
    return [
        f"{claim['id']}: {claim['claim']}",
        f"source: {', '.join(claim['source'])}; claimed factor: {', '.join(claim['factors'])}",
        f"verdict: {claim['verdict']}",
        f"reason: {claim['reason']}",
    ]


def _title(number: int, comparison: Mapping[str, Any]) -> str:
    return f"Comparison {number}, {comparison['kind']} ({comparison['role'].replace('_', ' ')})"
