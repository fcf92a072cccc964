"""The reward of a training run: the strict scorer of every evaluation, so that both mean the same by right.

verl loads this file by its path in each reward worker and calls :func:`compute_score`.
"""

from __future__ import annotations

from typing import Any

from harness.answers import score_text

KEYS = ("score", "acc", "parsed")


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **other: Any
) -> dict[str, float]:
    """Return ``score`` and ``acc``, 1.0 where the number behind ``####`` is ``ground_truth``, else 0.0; and ``parsed``.

    ``acc`` is what dynamic sampling filters by; ``parsed`` says whether there was such a number at all. The other
    arguments are verl's, and change nothing.
    """
    found = score_text(solution_str, str(ground_truth)).strict
    right = float(found or 0.0)
    return {"score": right, "acc": right, "parsed": float(found is not None)}
