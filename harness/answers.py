"""How a final number is read from a text, in the two ways of the field, always both computed.

*Strict* reads the number written directly after a ``####`` marker (spaces and tabs between them are fine,
words and ``**`` are not); of several markers the last that has a number there, so that a heading or a bare
``####`` further on takes nothing back. *Flexible* reads the last number anywhere in the text. Values are
compared as exact decimals: ``12.0`` equals ``12``, and no float is involved.

A number here is
- an optional sign (``+``, ``-``, the Unicode minus, figure and en dashes) that touches the number or its
  currency sign and does not follow a letter, a digit or a closing bracket (``10-20`` ends in 20, not -20),
- an optional currency sign ``$``, ``€``, ``£`` or ``¥``, also LaTeX-escaped (``\\$5``),
- digits, in whole or in groups of three after commas or thin, narrow or non-breaking spaces (``1,234``),
  with an optional fraction (``12.50``, ``.5``) and an optional exponent of at most three digits (``1e3``).
What follows is taken for a unit: ``%``, ``dollars``, a full stop, a comma; ``k`` or ``million`` do not
multiply. Fullwidth digits and signs are read as their ASCII forms, other scripts' digits are not digits.

A run of digits, dots and commas that is no such number (``1,2,3``, ``1.2.3``, ``12,34``, ``0,123``) is not
read: strict finds nothing, flexible goes on to the number before it. For strict an expression (``5*3``,
``3/4``, ``10-20``, ``3:30``) is not a number either. ``NaN`` and ``Infinity`` are words. Any text of any
length is accepted; nothing here raises on a text.

Source: the rules of verl's ``verl/utils/reward_score/gsm8k.py`` (strict ``#### (\\-?[0-9\\.\\,]+)``, flexible
``(\\-?[0-9\\.\\,]+)``, last match) and of lm-evaluation-harness' ``gsm8k.yaml``. Differences on purpose:
newer verl looks at the last 300 characters only, here the marker may stand anywhere (a correct answer
followed by a long remark is right here and unparsed there); verl compares strings, so that ``12.0``, ``18.``
or ``$18`` are wrong there and right here, and it reads ``1,2,3`` as 123.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from harness.exceptions import HarnessError

STRICT, FLEXIBLE = "strict", "flexible"
MARKER = "####"

_MAX_EXPONENT_DIGITS = 3
_FULLWIDTH = "0123456789,.+-$"
_MINUS_SIGNS = "\u2212\u2012\u2013\ufe63"
_ASCII = str.maketrans(
    "".join(chr(ord(sign) + 0xFEE0) for sign in _FULLWIDTH) + "\uffe1\uffe5" + _MINUS_SIGNS,
    _FULLWIDTH + "\u00a3\u00a5" + "-" * len(_MINUS_SIGNS),
)
_GROUP_SPACE = re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")
_CURRENCY = r"\\?[$€£¥] ?"
_NUMBER = (
    rf"(?:(?P<sign>(?<![\w)\]}}+\-])[+-])?(?:{_CURRENCY})?|{_CURRENCY}(?P<inner>[+-]))"
    r"(?P<digits>(?:(?<![\w.,)])\.)?[0-9][0-9.,]*)"
    r"(?:(?<=[0-9])[eE](?P<exponent>[+-]?[0-9]+))?"
)
_ANYWHERE = re.compile(_NUMBER)
_MARKED = re.compile(rf"{MARKER}[ \t]*{_NUMBER}")
_WELL_FORMED = re.compile(r"(?:[0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+)(?:\.[0-9]+)?|\.[0-9]+")
_OPERATOR = "[-+*/^=:\u00d7\u00f7]"
_EXPRESSION = re.compile(_OPERATOR + "[0-9]")
_MAY_GO_ON = re.compile(rf"(?:[eE][+-]?|{_OPERATOR}|[\u00a0\u2009\u202f][0-9]{{0,3}})?")
_MARKER_AT_END = re.compile(rf"{MARKER}[ \t]*[+-]?(?:{_CURRENCY}|\\)?[+-]?\.?\Z")


@dataclass(frozen=True)
class Scored:
    """Both scores of one text: 1.0 or 0.0, or ``None`` where no number was found; and the numbers found.

    An answer is canonical: digits with an optional ``-`` and fraction, no separators, no trailing zeros.
    """

    strict: float | None
    flexible: float | None
    strict_answer: str | None
    flexible_answer: str | None


def score_text(text: str, reference: str) -> Scored:
    """Score a model's ``text`` against the gold number ``reference``; see the module for the rules.

    Never raises on ``text``; a ``reference`` that is not a number is a :class:`HarnessError`.
    """
    gold = canonical_number(reference)
    if gold is None:
        raise HarnessError(f"reference {reference[:60]!r}", "the reference must be one number", "check the data file")
    strict, flexible = strict_answer(text), flexible_answer(text)
    return Scored(_compare(strict, gold), _compare(flexible, gold), strict, flexible)


def strict_answer(text: str) -> str | None:
    """Return the canonical number after the last ``####`` that has one, or ``None``."""
    text = _plain(text)
    found = _last(_MARKED.finditer(text))
    if found is None or _EXPRESSION.match(text, found.end()):
        return None
    return _canonical(found)


def flexible_answer(text: str) -> str | None:
    """Return the canonical last number of the text, or ``None``."""
    answer = None
    for found in _ANYWHERE.finditer(_plain(text)):
        answer = _canonical(found) or answer
    return answer


def canonical_number(text: str) -> str | None:
    """Return the one number that ``text`` is (``"1,234.50"`` -> ``"1234.5"``), space around it aside, or ``None``."""
    found = _ANYWHERE.fullmatch(_plain(text.strip()))
    return _canonical(found) if found else None


def _compare(answer: str | None, gold: str) -> float | None:
    return None if answer is None else float(Decimal(answer) == Decimal(gold))


def strict_answer_is_complete(text: str) -> bool:
    """Return True where no further text without a new marker could change what strict reads from ``text``.

    At least one character follows the number that no longer number, exponent or expression could begin with, and no
    bare ``####`` stands at the end.
    """
    text = _plain(text)
    found = _last(_MARKED.finditer(text))
    if found is None or _canonical(found) is None:
        return False
    rest = text[found.end() :]
    return not _MAY_GO_ON.fullmatch(rest) and not _MARKER_AT_END.search(rest)


def _plain(text: str) -> str:
    """ASCII digits and signs for their variants, and commas for spaces between groups of three; same length."""
    return _GROUP_SPACE.sub(",", text.translate(_ASCII))


def _last(matches: Iterator[re.Match[str]]) -> re.Match[str] | None:
    """The last of ``matches``, none but it kept in memory."""
    tail = deque(matches, maxlen=1)
    return tail[0] if tail else None


def _canonical(found: re.Match[str]) -> str | None:
    """The canonical form of one match of ``_NUMBER``, or ``None`` where the run of digits is malformed."""
    digits, exponent = found["digits"].rstrip(".,"), found["exponent"] or "0"
    if not _WELL_FORMED.fullmatch(digits) or len(exponent.lstrip("+-")) > _MAX_EXPONENT_DIGITS:
        return None
    sign = "-" if "-" in (found["sign"], found["inner"]) else ""
    value = format(Decimal(f"{sign}{digits.replace(',', '')}e{exponent}"), "f")
    if "." in value:
        value = value.rstrip("0").rstrip(".")
    return "0" if value == "-0" else value
