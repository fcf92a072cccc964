"""Holds every stored score against what its stored text gives under the run's scorer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.answers import SCORERS, judge, score_text
from harness.exceptions import StoreError
from harness.record import ERROR, ItemResult
from harness.runs.manifest import AGAIN


def check_scores(path: Path, scorer: str, results: Iterable[ItemResult], references: Mapping[str, str]) -> None:
    """Raise :class:`StoreError` for the first of ``results`` whose score, reason or answer its text does not give.

    ``references`` maps items to right answers; an item without one cannot be recomputed and is passed over, as are
    records of a failed measurement, which have no score at all.
    """
    if scorer not in SCORERS:
        raise StoreError(f"run {path}", f"its scorer {scorer!r} is unknown here", "read it with the version that wrote")
    for result in results:
        reference = references.get(result.item)
        if reference is None and result.reason != ERROR:
            continue
        stored = result.score, result.reason, result.answer, result.strict, result.flexible
        given = _scored(result, scorer, reference or "0")
        if stored != given:
            raise StoreError(
                f"records of {path}",
                f"item {result.item} at level {result.level:g}, seed {result.seed} is stored as {_words(stored)}, and"
                f" its text gives {_words(given)}: edited, or scored by another version",
                AGAIN,
            )


_Score = tuple[float | None, str, str | None, float | None, float | None]


def _scored(result: ItemResult, scorer: str, reference: str) -> _Score:
    if result.reason == ERROR:
        return None, ERROR, None, result.strict, result.flexible
    scored = score_text(result.text, reference)
    return (*judge(scored, scorer, result.truncated, result.text), scored.strict, scored.flexible)


def _words(score: _Score) -> str:
    value, reason, answer, strict, flexible = score
    return f"{reason} (score {value}, answer {answer!r:.40}, strict {strict}, flexible {flexible})"
