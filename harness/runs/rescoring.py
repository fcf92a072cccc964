"""Holds every stored score against what its stored text gives under the run's scorer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.exceptions import HarnessError, StoreError
from harness.record import ERROR, ItemResult
from harness.runs.manifest import AGAIN
from harness.scorers import Asked, Judged, Scorer, judged, load_scorer, scorer_key


def check_scores(
    path: Path,
    name: str,
    results: Iterable[ItemResult],
    references: Mapping[str, str],
    questions: Mapping[str, str],
) -> dict[str, str]:
    """Return how the scores of a run were found to follow from its texts: :func:`harness.scorers.scorer_key`.

    Raise :class:`StoreError` for the first of ``results`` whose scores, reason or answer its text does not give.

    ``name`` is the scorer's. ``references`` maps items to right answers, ``questions`` to what was asked; an item
    without a right answer cannot be recomputed and is passed over, as are records of a failed measurement, which have
    no score at all.
    """
    try:
        scorer = load_scorer(name)
    except HarnessError as error:
        way_out = "install what brings it, or read the run with the version that wrote it"
        raise StoreError(f"run {path}", f"its scorer {name!r} is unknown here ({error})", way_out) from None
    for result in results:
        reference = references.get(result.item)
        if reference is None and result.reason != ERROR:
            continue
        stored = Judged(result.score, result.reason, result.answer, result.scores)
        given = _judged(result, scorer, reference or "", questions.get(result.item, ""))
        if stored != given:
            raise StoreError(
                f"records of {path}",
                f"item {result.item} at level {result.level:g}, seed {result.seed} is stored as {_words(stored)}, and"
                f" its text gives {_words(given)}: edited, or scored by another version",
                AGAIN,
            )
    return scorer_key(scorer)


def _judged(result: ItemResult, scorer: Scorer, reference: str, question: str) -> Judged:
    if result.reason == ERROR:
        return Judged(None, ERROR, None, result.scores)
    return judged(scorer, result.text, reference, Asked(result.item, question), result.truncated)


def _words(found: Judged) -> str:
    values = ", ".join(f"{name} {value}" for name, value in found.scores.items())
    return f"{found.reason} (score {found.score}, answer {found.answer!r:.40}, {values})"
