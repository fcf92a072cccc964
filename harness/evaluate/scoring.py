"""From a generated text to a record (no torch)."""

from __future__ import annotations

from typing import Any

from harness.evaluate.tasks import Item
from harness.record import ItemResult
from harness.scorers import Asked, Scorer, judged


def scored_result(item: Item, text: str, scorer: Scorer, **fields: Any) -> ItemResult:
    """Return an :class:`ItemResult` of ``text`` under ``scorer``; ``fields`` are the remaining ones of the record."""
    found = judged(scorer, text, item.reference, Asked(item.key, item.question), fields["truncated"])
    return ItemResult(
        item=item.key,
        score=found.score,
        reason=found.reason,
        answer=found.answer,
        scores=found.scores,
        text=text,
        **fields,
    )
