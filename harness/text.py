"""Words for messages: the nearest known name, an error in one line, numbers as they are read best."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_UNSEEN = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    r"\ud800-\udfff\U000e0000-\U000e007f"
)
"""What steers a terminal or the order of letters instead of being seen: controls, escape sequences, marks of writing
direction, line separators, tags; and halves of letters, which no file takes."""
_BREAKS = "\n\t"


def visible(text: str, kept: str = "") -> str:
    """Return ``text`` with what would steer its reader's screen as escapes (``\\x1b``, ``\\n``); line breaks and tabs
    in ``kept`` stay."""
    shown = "".join(letter for letter in _BREAKS if letter not in kept)
    return re.sub(f"[{_UNSEEN}{shown}]", lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """Return ``text`` with its line breaks and tabs as spaces and other controls as :func:`visible` shows them."""
    return visible(text, _BREAKS).replace("\n", " ").replace("\t", " ")


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
        return f"{value:+z,.0f}"
    return f"{value:+z.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:+.3g}"
