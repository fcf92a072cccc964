"""Rows of a run's database and what they hold, in every schema version that is read; no SQL."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.record import ERROR, IDENTITY_FIELDS, ItemResult, LikelihoodResult, SiteCount, kind_of
from harness.runs.choice import Choice

RECORD = [f.name for f in fields(ItemResult) if f.name != "logits"]
COUNTS = [f.name for f in fields(SiteCount)[IDENTITY_FIELDS:]]
_TOKENS, _TRUNCATED, _SCORES = (RECORD.index(name) for name in ("tokens", "truncated", "scores"))
_OP, _KIND = (([f.name for f in fields(SiteCount)]).index(name) for name in ("op", "kind"))

SCORES_SINCE = KIND_SINCE = 4
"""The first schema version with all scores of a record in one column, and with the kind of a count."""


@dataclass(frozen=True)
class Audit:
    """What the auditor saw in the audited forwards of one batch: products counted, and what spoke against them.

    ``phase`` is :data:`PREFILL` or :data:`DECODE` (empty: of both, or of none), ``forwards`` the number of forwards
    that were audited, ``choice`` what chose the batch (None: nothing did; it says only what went wrong).
    """

    level: float
    products: int
    problems: tuple[str, ...]
    phase: str = ""
    forwards: int = 0
    choice: Choice | None = None


def row_digest(row: Sequence[Any]) -> str:
    """Return 16 hex digits of SHA-256 over the values of a row: an edited or damaged record is found when it is
    read."""
    return hashlib.sha256(json.dumps(list(row)).encode()).hexdigest()[:16]


def record_row(result: ItemResult) -> tuple[Any, ...]:
    """Return the row of ``records`` for ``result``, its digest included."""
    row = (
        *(result.item, float(result.level), result.seed, result.score, result.reason, result.answer),
        *(json.dumps(result.scores, allow_nan=False), result.prompt_tokens),
        *(json.dumps(result.tokens), result.text, int(result.truncated)),
    )
    return (*row, row_digest(row))


def record_reader(version: int, vouched: bool, scored: bool = False) -> Callable[[Sequence[Any]], ItemResult]:
    """Return what makes a record of a row of schema ``version``; without ``vouched`` it holds the row's digest.

    ``scored`` says that the run scores continuations: then the texts must be those of :mod:`harness.likelihoods`.

    A run may hold a million records: they share one string for each item and one mapping for equal scores.
    """
    items: dict[str, str] = {}
    known: dict[Any, Mapping[str, float | None]] = {}

    def read(row: Sequence[Any]) -> ItemResult:
        *content, found = row
        if not vouched and found != row_digest(content):
            raise ValueError(f"the checksum of item {content[0]} at level {content[1]}, seed {content[2]} does not fit")
        content[0] = items.setdefault(content[0], content[0])
        if version < SCORES_SINCE:
            strict, flexible = content[_SCORES : _SCORES + 2]
            content[_SCORES : _SCORES + 2] = [
                known.setdefault((strict, flexible), {"strict": strict, "flexible": flexible})
            ]
        else:
            text = content[_SCORES]
            content[_SCORES] = known[text] if text in known else known.setdefault(text, _mapping(text))
        content[_TOKENS], content[_TRUNCATED] = tuple(json.loads(content[_TOKENS])), bool(content[_TRUNCATED])
        return _likelihood(content) if scored else ItemResult(*content)

    return read


def _likelihood(content: Sequence[Any]) -> LikelihoodResult:
    """A record of scored continuations, whose text must count the tokens that it has."""
    found = LikelihoodResult(*content)
    if found.reason == ERROR:
        return found
    counts = found.prompt_tokens, len(found.tokens)
    told = sum(each.context for each in found.requests), sum(each.tokens for each in found.requests)
    if told != counts or found.truncated:
        raise ValueError(f"item {found.item}: its text tells of {told} tokens, it has {counts}")
    return found


def _mapping(text: str) -> Mapping[str, float | None]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"scores {text:.40} are no mapping")
    return found


def evidence_row(result: ItemResult, batch: int, row: int) -> tuple[Any, ...]:
    """Return the row of ``evidence``: where a record stood, and the logits of its tokens to 7 digits."""
    logits = [float(f"{logit:.7g}") if math.isfinite(logit) else None for logit in result.logits]
    return (result.item, float(result.level), result.seed, batch, row, json.dumps(logits))


def audit_row(audit: Audit) -> tuple[Any, ...]:
    """Return the row of ``audits``."""
    choice = None if audit.choice is None else json.dumps(audit.choice.to_json())
    return (audit.level, audit.products, json.dumps(audit.problems), audit.phase, audit.forwards, choice)


def audit_of(
    level: float, products: int, problems: str, phase: str = "", forwards: int = 0, choice: str | None = None
) -> Audit:
    """Return the audit in a row; older schemas had the first columns only."""
    chosen = None if choice is None else Choice.from_json(json.loads(choice))
    return Audit(level, products, tuple(json.loads(problems)), phase, forwards, chosen)


def count_of(row: Sequence[Any], version: int) -> SiteCount:
    """Return the count in a row of the ledger of schema ``version``; SQLite keeps NaN as NULL."""
    values = list(row)
    if version < KIND_SINCE:
        values.insert(_KIND, kind_of(str(values[_OP])))
    numbers = [math.nan if number is None else number for number in values[IDENTITY_FIELDS:]]
    return SiteCount(*values[:IDENTITY_FIELDS], *numbers)
