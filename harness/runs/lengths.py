"""Holds the length of every stored answer against the token limit of the measurement key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.record import INVALID_EVIDENCE, Certificate, ItemResult


def length_problems(results: Sequence[ItemResult], limit: int) -> list[str]:
    """Return what speaks against the lengths of one level's ``results``, the first answer of each kind by name.

    An answer that was cut has exactly ``limit`` tokens; one that ended by itself has at most as many, the end included.
    """
    short = [result for result in results if result.truncated and result.steps < limit]
    long = [result for result in results if result.steps > limit]
    return [
        f"{words} {first.steps} tokens, max_new_tokens is {limit}: item {first.item}, seed {first.seed}"
        f"{f', and {len(found) - 1} more' if len(found) > 1 else ''}"
        for words, found in (("an answer was cut off at", short), ("an answer has", long))
        for first in found[:1]
    ]


def with_lengths(certificate: Certificate, results: Sequence[ItemResult], limit: int) -> Certificate:
    """Return ``certificate`` with the problems of answers whose length does not fit, level by level."""
    by_level: dict[float, list[ItemResult]] = {}
    for result in results:
        by_level.setdefault(result.level, []).append(result)
    found = {level: tuple(length_problems(own, limit)) for level, own in by_level.items()}
    if not any(found.values()):
        return certificate
    levels = tuple(
        replace(entry, problems=(*entry.problems, *found.get(entry.level, ()))) for entry in certificate.levels
    )
    return replace(certificate, status=INVALID_EVIDENCE, levels=levels)
