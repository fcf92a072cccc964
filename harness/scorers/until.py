"""Texts that end an answer wherever they appear in it, as lm-evaluation-harness's ``until`` (standard library only)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

UNTIL = "until"
"""The field of a measurement key that holds them, as JSON; it is missing where there are none."""


def cut(text: str, until: Sequence[str]) -> str:
    """Return ``text`` up to the first of each of ``until``, one after the other in their order; empty ones count not.

    Source: ``postprocess_generated_text`` of lm-evaluation-harness 0.4.13.
    """
    for end in until:
        text = text.partition(end)[0] if end else text
    return text


def holds(text: str, until: Sequence[str]) -> bool:
    """Return whether one of ``until`` stands in ``text``."""
    return any(end in text for end in until if end)


def until_key(until: Sequence[str]) -> dict[str, str]:
    """Return the field of the measurement key; none where nothing but a token ends an answer."""
    return {UNTIL: json.dumps(list(until), ensure_ascii=False)} if until else {}


def until_of(key: Mapping[str, str]) -> tuple[str, ...]:
    """Return the inverse of :func:`until_key`. Raises ValueError for a field that is no list of texts."""
    stored = key.get(UNTIL)
    found = [] if stored is None else json.loads(stored)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"{UNTIL} {stored!r:.60}")
    return tuple(found)
