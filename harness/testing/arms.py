"""Makes sides of a comparison in memory: given outcomes by level, item and seed, under a certificate that vouches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.record import (
    CERTIFIED,
    ERROR,
    MEASURED,
    RIGHT,
    UNPARSED,
    WRONG,
    Arm,
    Certificate,
    LevelCertificate,
    Outcome,
    TextOutcome,
)

KEY = {"engine": "transformers", "dataset": "d1", "template": "t1", "scorer": "strict"}


def make_outcome(value: Any) -> Outcome:
    """Return the outcome of ``value``: 1 is right and 0 wrong, "error", "unparsed" and "truncated" have no score."""
    if isinstance(value, str):
        return Outcome(None, value)
    return Outcome(float(value), RIGHT if value else WRONG)


TEXT_KEY = {**KEY, "scorer": "perplexity", "task": "perplexity"}


def make_text_arm(
    levels: Mapping[float, Sequence[Any]],
    tokens: Sequence[int],
    label: str = "arm",
    key: Mapping[str, str] | None = None,
    clusters: Mapping[str, str] | None = None,
) -> Arm:
    """Return an arm of documents ``i0000``, ``i0001``... of so many ``tokens`` each.

    Each level lists one entry per document: nats (negative), ``None`` for a missing document, NaN for one that is not
    finite, "error" for one that failed, or a list of such values, one per seed.
    """
    outcomes: dict[float, dict[str, dict[int, Outcome]]] = {}
    for level, rows in levels.items():
        outcomes[level] = {}
        for position, (row, size) in enumerate(zip(rows, tokens, strict=True)):
            cells = row if isinstance(row, list | tuple) else [row]
            filled: dict[int, Outcome] = {
                seed: _text_outcome(cell, size) for seed, cell in enumerate(cells) if cell is not None
            }
            if filled:
                outcomes[level][f"i{position:04d}"] = filled
    certificate = make_certificate(list(levels))
    return Arm(label, TEXT_KEY if key is None else key, outcomes, certificate, clusters=dict(clusters or {}))


def _text_outcome(value: Any, tokens: int) -> TextOutcome:
    if isinstance(value, str):
        return TextOutcome(None, ERROR, None, tokens)
    finite = math.isfinite(value)
    return TextOutcome(None, MEASURED if finite else UNPARSED, float(value) if finite else None, tokens)


def make_certificate(levels: Sequence[float], problems: Mapping[float, str] | None = None) -> Certificate:
    """Return a certificate that vouches for ``levels``, with one problem at each level named in ``problems``."""
    problems = problems or {}
    entries = tuple(
        LevelCertificate(level, 4, 100, 100, 1000, 900, level, level, 4, tuple(filter(None, [problems.get(level)])))
        for level in levels
    )
    return Certificate(CERTIFIED, entries)


def make_arm(
    levels: Mapping[float, Sequence[Any]],
    label: str = "arm",
    key: Mapping[str, str] | None = None,
    evidence: Certificate | None = None,
    seeds: Sequence[int] | None = None,
) -> Arm:
    """Return an arm of items ``i0000``, ``i0001``...

    Each level lists one entry per item: a value for :func:`make_outcome`, ``None`` for a missing item, or a list of
    such values, one per seed.
    """
    outcomes: dict[float, dict[str, dict[int, Outcome]]] = {}
    for level, rows in levels.items():
        outcomes[level] = {}
        for position, row in enumerate(rows):
            cells = row if isinstance(row, list | tuple) else [row]
            names = seeds or range(len(cells))
            filled = {seed: make_outcome(cell) for seed, cell in zip(names, cells, strict=True) if cell is not None}
            if filled:
                outcomes[level][f"i{position:04d}"] = filled
    return Arm(label, KEY if key is None else key, outcomes, evidence or make_certificate(list(levels)))
