"""From a generated text to a record (no torch)."""

from __future__ import annotations

from typing import Any

from harness.answers import judge, score_text
from harness.evaluate.tasks import Item
from harness.record import ItemResult


def scored_result(item: Item, text: str, scorer: str, **fields: Any) -> ItemResult:
    """Return an :class:`ItemResult` of ``text`` under ``scorer``; ``fields`` are the remaining ones of the record."""
    scored = score_text(text, item.reference)
    score, reason, answer = judge(scored, scorer, fields["truncated"], text)
    return ItemResult(
        item=item.key,
        score=score,
        reason=reason,
        answer=answer,
        strict=scored.strict,
        flexible=scored.flexible,
        text=text,
        **fields,
    )
