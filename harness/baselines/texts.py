"""How a baseline file holds the log-likelihoods of texts (no torch).

An item's row has its ``tokens`` and, at each level, one number for each noise seed: nats as they were measured. ``.``
is a seed that is missing. Behind a ``|`` stand the digests of the answers, as they do for right and wrong ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.record import MEASURED, Arm, Outcome, TextOutcome

TEXT_VERSION = 3
"""The schema version of files with log-likelihoods of texts; all others keep version 2."""

TOKENS = "tokens"
BEHIND = " | "
"""What stands between an item's numbers and its digests."""

_MISSING = "."


def holds_texts(arm: Arm) -> bool:
    """Return whether the outcomes of ``arm`` are log-likelihoods of texts."""
    return any(
        isinstance(outcome, TextOutcome)
        for cells in arm.outcomes.values()
        for row in cells.values()
        for outcome in row.values()
    )


def text_row(row: Mapping[int, Outcome], seeds: list[int]) -> str:
    """Return the numbers of one item at one level; every measured one has a log-likelihood."""
    found = [row.get(seed) for seed in seeds]
    return " ".join(_MISSING if not isinstance(each, TextOutcome) else repr(each.nats) for each in found)


def text_tokens(arm: Arm, item: str) -> int:
    """Return how many tokens the document ``item`` of ``arm`` has."""
    found = (outcome for cells in arm.outcomes.values() for outcome in cells.get(item, {}).values())
    return next(outcome.tokens for outcome in found if isinstance(outcome, TextOutcome))


def read_text_row(numbers: str, tokens: object, seeds: list[int]) -> dict[int, Outcome]:
    """Return the inverse of :func:`text_row`. Raises ValueError for numbers that are not finite, and for another
    count."""
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise ValueError(f"tokens {tokens!r:.40}")
    cells: dict[int, Outcome] = {}
    for seed, number in zip(seeds, numbers.split() or [_MISSING] * len(seeds), strict=True):
        if number == _MISSING:
            continue
        nats = float(number)
        if not math.isfinite(nats):
            raise ValueError(f"nats {number:.40}")
        cells[seed] = TextOutcome(None, MEASURED, nats, tokens)
    return cells
