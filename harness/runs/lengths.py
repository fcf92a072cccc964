"""Holds the length of every stored answer against the token limit of the measurement key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.record import INVALID_EVIDENCE, Certificate, ItemResult
from harness.scorers.until import holds


def length_problems(results: Sequence[ItemResult], limit: int, until: Sequence[str] = ()) -> list[str]:
    """Return what speaks against the lengths of one level's ``results``, the first answer of each kind by name.

    An answer that was cut has exactly ``limit`` tokens, or holds one of the texts ``until`` that end it; one that ended
    by itself has at most as many, the end included.
    """
    short = [result for result in results if result.truncated and result.steps < limit]
    short = [result for result in short if not holds(result.text, until)]
    long = [result for result in results if result.steps > limit]
    return [
        f"{words} {first.steps} tokens, max_new_tokens is {limit}: item {first.item}, seed {first.seed}"
        f"{f', and {len(found) - 1} more' if len(found) > 1 else ''}"
        for words, found in (("an answer was cut off at", short), ("an answer has", long))
        for first in found[:1]
    ]


def with_lengths(
    certificate: Certificate, results: Sequence[ItemResult], limit: int, until: Sequence[str] = ()
) -> Certificate:
    """Return ``certificate`` with the problems of answers whose length does not fit, level by level."""
    by_level: dict[float, list[ItemResult]] = {}
    for result in results:
        by_level.setdefault(result.level, []).append(result)
    found = {level: tuple(length_problems(own, limit, until)) for level, own in by_level.items()}
    if not any(found.values()):
        return certificate
    levels = tuple(
        replace(entry, problems=(*entry.problems, *found.get(entry.level, ()))) for entry in certificate.levels
    )
    return replace(certificate, status=INVALID_EVIDENCE, levels=levels)
