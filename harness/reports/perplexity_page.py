"""The tables of scored texts: perplexity by noise level, and what one run loses against another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.exceptions import HarnessError, NotComparableError
from harness.gates.keys import key_differences
from harness.gates.perplexity import is_continuous, nats_apart
from harness.reports.page import Page, Table
from harness.reports.tables import bounds_text, bracketed
from harness.runs.loaded import Run, complete_run
from harness.stats.interval import Interval
from harness.thresholds import ALPHA

HEADER = (
    *("level", "documents", "draws", "nats / token", "perplexity by token", "by word", "by byte"),
    *("bits / byte", "lost, nats / token", "not finite"),
)
LEGEND = (
    f"In brackets: {bounds_text(ALPHA)}, by a bootstrap over documents (or clusters of them). Lost: log-likelihood"
    " against the clean level, document by document. Not finite: documents that are left out."
)
APART_HEADER = ("level", "documents", "lost, nats / token")
APART_LEGEND = (
    f"How much log-likelihood the first run loses against the second on the same documents; in brackets:"
    f" {bounds_text(ALPHA)}, by a bootstrap over documents. This is no verdict: harness gate judges a margin."
)


def perplexity_table(levels: Sequence[Mapping[str, Any]], title: str = "Perplexity by noise level") -> Table:
    """Return one row for each level of :func:`harness.reports.run_report.run_report`."""
    return Table.of(title, HEADER, [_row(level) for level in levels], legend=LEGEND)


def _row(level: Mapping[str, Any]) -> tuple[str, ...]:
    found = level["perplexity"]
    by = found["by"]
    bits = by["bytes"]["estimate"]
    return (
        f"{100 * level['level']:g} %",
        f"{found['documents']:,}",
        f"{level['draws']:,}",
        bracketed(found["nats_per_token"], 4),
        *(bracketed(by[unit], 3) for unit in ("tokens", "words", "bytes")),
        "-" if bits is None else f"{math.log2(bits):.4f}",
        "-" if found["lost"] is None else bracketed(found["lost"], 4, signed=True),
        f"{found['not_finite']:,}",
    )


def difference_page(path: Path, against: Path) -> Page:
    """Return what the run ``path`` loses against the run ``against`` at every level that both have.

    Raises :class:`HarnessError` for runs that score no texts, and :class:`NotComparableError` for other measurement
    keys, for evidence that is not whole, and where no document is in both.
    """
    runs = [complete_run(each) for each in (path, against)]
    for run in runs:
        _check(run)
    differing = key_differences(runs[0].arm.key, runs[1].arm.key)
    if differing:
        raise NotComparableError(
            f"{path} and {against}: {'; '.join(differing)}",
            "their numbers depend on different things",
            "evaluate both alike",
        )
    one, other = runs
    shared = sorted(set(one.arm.outcomes) & set(other.arm.outcomes))
    rows = [_difference(one, other, level) for level in shared]
    notes = tuple(dict.fromkeys(note for run in runs for note in run.arm.certificate.notes))
    title = f"{path} against {against}"
    return Page.of(title, Table.of("Log-likelihood lost", APART_HEADER, rows, legend=APART_LEGEND), notes=notes)


def _difference(one: Run, other: Run, level: float) -> tuple[str, ...]:
    ours, theirs = ([result for result in run.results if result.level == level] for run in (one, other))
    documents, lost = nats_apart(ours, theirs, one.arm.clusters)
    return f"{100 * level:g} %", f"{documents:,}", _interval(lost)


def _interval(found: Interval) -> str:
    return bracketed(found.to_json(), 4, signed=True)


def _check(run: Run) -> None:
    if not is_continuous(run.arm.key):
        raise HarnessError(f"--against with {run.path}", "it holds right and wrong answers", "use harness gate")
    certificate = run.arm.certificate
    problems = [words for level in run.arm.outcomes for words in certificate.problems_at(level)]
    if problems:
        raise NotComparableError(f"run {run.path} is INVALID ({problems[0]})", "no evidence, no difference")
