"""Words for messages: the nearest known name, numbers that read back exactly."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the closest known word, else the list of them."""
    choices = list(known)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(choices)}"


def number_text(value: float) -> str:
    """Return the shortest text that reads back as exactly ``value``: ``0``, ``0.05``."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def named(names: Iterable[str], most: int = 3) -> str:
    """Return the first of ``names`` in their order, and how many more there are: ``a, b, c and 7 more``."""
    found = sorted(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
