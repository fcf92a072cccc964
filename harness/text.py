"""Words for messages: the nearest known name, an error in one line, numbers as they are read best."""

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


def brief(error: BaseException, most: int = 160) -> str:
    """Return kind and text of ``error`` on one line, the text cut after ``most`` characters."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # an error whose text fails is still reported
        text = ""
    text = text if len(text) <= most else f"{text[:most]} ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def signed(value: float | None) -> str:
    """Return +2.42, -0.0232, +195,000,000: as many digits as a small value needs; ``-`` where there is none."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:+,.0f}"
    return f"{value:+.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:+.3g}"
