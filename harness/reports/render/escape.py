"""Texts in Markdown: shown letter by letter, whatever a model, a file or a name put into them.

Everything that a page says goes through here, so that no text becomes an element, a link, raw HTML, a formula or a
mention of somebody. Source: CommonMark 0.31 and GitHub's extensions (tables, strikethrough, task lists, bare links).
"""

from __future__ import annotations

import re

from harness.text import one_line, visible

_INLINE = re.compile(
    r"[\\`*~$|]"
    r"|(?<![^\W_])_+|_+(?![^\W_])"  # an underscore within a word is itself
    r"|<(?=[A-Za-z/!?])|&(?=#?\w{1,40};)|\](?=[(\[:])"
    r"|:(?=//)|(?<=\bwww)\.",
    re.IGNORECASE,
)
_BLOCK = re.compile(r"\A(?:[#>=]|[-+](?=[\s-]|\Z)|\[(?=[ x]\])|(?P<number>\d{1,9})(?=[.)](?:\s|\Z)))", re.IGNORECASE)
_CLOSING = re.compile(r"(?<=\s)(#+)\Z")
_MENTION = re.compile(r"@(?=\w)")
_NOBODY = "@\u2060"
"""An at sign and a word joiner: GitHub mentions people, and links addresses, after all escapes are gone."""
_TICKS = re.compile("`+")
_SPACE = "\n\t"


def inline(text: str) -> str:
    """Return ``text`` as Markdown within a line or a cell of a table: one line that shows exactly it."""
    seen = " ".join(one_line(text).split())
    escaped = _INLINE.sub(lambda found: "".join(f"\\{letter}" for letter in found[0]), seen)
    return _MENTION.sub(_NOBODY, escaped)


def line(text: str) -> str:
    """Return ``text`` as Markdown for a line of its own, which begins no list, heading, quotation or rule."""
    found = _CLOSING.sub(r"\\\1", inline(text))
    return _BLOCK.sub(lambda start: f"{start[0]}\\" if start["number"] else f"\\{start[0]}", found)


def fenced(text: str) -> str:
    """Return ``text`` as a block of code, its lines as they are, in a fence longer than any in it."""
    longest = max(map(len, _TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{visible(text, _SPACE)}\n{fence}"
