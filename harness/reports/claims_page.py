"""The pages of judged claims: all of them, one in full, and the pre-registered theory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.claims.effective import Spread
from harness.claims.judgements import VERDICTS, Judgement
from harness.reports.claims_tables import (
    ARM_HEADER,
    ARM_SPARE,
    CLAIM_HEADER,
    CRITERION_HEADER,
    CRITERION_SPARE,
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
from harness.reports.page import Heading, Lines, Page, Part, Prose, Table
from harness.reports.render.markdown import markdown
from harness.runs.folder import guarded, write_atomically

SCHEMA_VERSION = 1


def claims_report(judgements: Sequence[Judgement], spread: Spread) -> dict[str, Any]:
    """Return strict JSON: ``schema_version``, ``summary`` (verdict -> count), ``claims``, ``replicates``."""
    counts = {verdict: sum(one.verdict == verdict for one in judgements) for verdict in VERDICTS}
    return {
        "schema_version": SCHEMA_VERSION,
        "summary": {verdict: count for verdict, count in counts.items() if count},
        "claims": [judgement.to_json() for judgement in judgements],
        "replicates": spread.to_json(),
    }


def claims_page(report: Mapping[str, Any]) -> Page:
    """Return tables by verdict, the groups of replicates, the counts, and in documents every claim in full."""
    parts: list[Part] = [Lines((summary_line(report), spread_line(report), HOW), detail=True)]
    for verdict, claims in grouped(report):
        title = f"{verdict} ({len(claims)}): {VERDICT_WORDS[verdict]}"
        parts += [Heading(title), Table.of(title, CLAIM_HEADER, claim_rows(claims), spare=("seeds", "runs", "p"))]
    if report["replicates"]["groups"]:
        title = "Accidental replicates: experiments with one effective configuration"
        parts += [
            Heading(title),
            Table.of(title, REPLICATE_HEADER, replicate_rows(report), spare=("degrees of freedom", "runs")),
        ]
    parts.append(Lines((spread_line(report), HOW, summary_line(report))))
    parts.append(Heading("Claims in full", detail=True))
    for claim in report["claims"]:
        parts.append(Heading(claim["id"], 3, detail=True))
        parts += [replace(part, detail=True) for part in _in_full(claim)]
    return Page.of("Published claims, judged", *parts)


def claim_page(claim: Mapping[str, Any], report: Mapping[str, Any]) -> Page:
    """Return one claim in full: every comparison with its arms, values and readings, what would settle it, cautions."""
    return Page.of(f"Claim {claim['id']}", *_in_full(claim), Lines((spread_line(report),)))


def theory_page(theory: Mapping[str, Any]) -> Page:
    """Return the criteria of the pre-registered theory, statement by statement."""
    title = "Gradient against activation noise: criteria fixed beforehand (points)"
    return Page.of(
        title,
        Table.of(title, CRITERION_HEADER, criterion_rows(theory), spare=CRITERION_SPARE),
        Lines.of(theory_lines(theory)),
    )


def write_claims(path: Path, report: Mapping[str, Any]) -> None:
    """Write the page as Markdown, atomically. Raises :class:`harness.exceptions.HarnessError` where it cannot."""
    with guarded(path, "file"):
        write_atomically(path, markdown(claims_page(report)))


def _in_full(claim: Mapping[str, Any]) -> Iterator[Part]:
    yield Lines.of(_headline(claim))
    for number, comparison in enumerate(claim["comparisons"], 1):
        title = f"Comparison {number}, {comparison['kind']} ({comparison['role'].replace('_', ' ')})"
        yield Table.of(title, ARM_HEADER, arm_rows(comparison), spare=ARM_SPARE) if comparison["arms"] else Prose(title)
        yield Lines.of(comparison_lines(comparison))
    yield Lines.of([*(f"note: {line}" for line in claim["cautions"]), settle_line(claim)])


def _headline(claim: Mapping[str, Any]) -> list[str]:
    return [
        f"{claim['id']}: {claim['claim']}",
        f"source: {', '.join(claim['source'])}; claimed factor: {', '.join(claim['factors'])}",
        f"verdict: {claim['verdict']}",
        f"reason: {claim['reason']}",
    ]
