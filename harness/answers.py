"""How a final number is read from a text, in the two ways of the field, always both computed.

*Strict* reads the number written directly after a ``####`` marker (spaces and tabs between them are fine,
words and ``**`` are not); of several markers the last that has a number there, so that a heading or a bare
``####`` further on takes nothing back. *Flexible* reads the last number anywhere in the text. Values are
compared as exact decimals: ``12.0`` equals ``12``, and no float is involved.

A number here is
- an optional sign (``+``, or any Unicode hyphen, minus sign, figure or en dash) that touches the number or its
  currency sign and follows no letter, digit, closing bracket, ``%`` or ``°``, nor the currency sign of a number
  before it (``10-20`` ends in 20 and ``20%-25%`` in 25; an em dash is punctuation),
- an optional currency sign ``$``, ``€``, ``£`` or ``¥``, also LaTeX-escaped (``\\$5``),
- digits, in whole or in groups of three after one and the same separator: a comma, LaTeX's ``{,}``, ``\\,`` or
  ``,\\!``, an apostrophe (``1'234``), or any no-break, thin or zero-width space of Unicode,
  with an optional fraction (``12.50``, ``.5``) and an optional exponent of at most three digits (``1e3``).
What follows is taken for a unit: ``%``, ``dollars``, a full stop, a comma; ``k`` or ``million`` do not
multiply. Fullwidth digits and signs are read as their ASCII forms, other scripts' digits are not digits.

What is no such number is never read in part. A run of digits and separators that is none (``1,2,3``, ``1.2.3``,
``12,34``, ``0,123``, ``1_234``), a fraction (``5 / 3``, ``1 1/2``, ``\\frac{5}{3}``, ``1½``) and a power (``5²``) are
none: strict finds nothing, flexible goes on to the number before it. For strict an expression (``5*3``,
``10 - 20``, ``3:30``), a range or a list (``10 to 20``, ``20%-25%``, ``3, 4``) and two numbers side by side (``1 234``)
are none either. ``NaN`` and ``Infinity`` are words. Any text of any length is accepted; nothing here raises on a text.

Source: the rules of verl's ``verl/utils/reward_score/gsm8k.py``, of lm-evaluation-harness' ``gsm8k.yaml`` and of
OpenAI's ``grade-school-math``; they read no other sign, group or currency, clip or take the first marker.
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
RULE = "2"
"""The version of these rules; it stands in the measurement key. One that gives any text another score gets the next
number: ``suites/unit/scorers/test_published_rules.py`` holds a table of texts to it. Rule 1 (until 2026-11-28) read the
first piece where there was no whole number: 9 of ``9{,}500``, 5 of ``5 / 3``."""

_MAX_EXPONENT_DIGITS = 3
_FULLWIDTH = "0123456789,.+-$%"
_MINUS_SIGNS = "\u02d7\u2010\u2011\u2012\u2013\u207b\u2212\u2796\ufe63"
_PLUS_SIGNS = "\u2795\ufe62"
_APOSTROPHES = "\u2019\u02bc\uff07"
_ASCII = str.maketrans(
    "".join(chr(ord(sign) + 0xFEE0) for sign in _FULLWIDTH)
    + "\uffe1\uffe5"
    + _MINUS_SIGNS
    + _PLUS_SIGNS
    + _APOSTROPHES,
    _FULLWIDTH + "\u00a3\u00a5" + "-" * len(_MINUS_SIGNS) + "+" * len(_PLUS_SIGNS) + "'" * len(_APOSTROPHES),
)
_THIN = "\u00a0\u2004-\u200b\u202f\u205f\u2060\ufeff"
_SPACE = rf"[ \t{_THIN}]"
_SEPARATOR = rf",\\!|\{{,\}}|\\,|[,'{_THIN}]"
_POWERS_AND_PARTS = "\u00b2\u00b3\u00b9\u00bc-\u00be\u2070\u2074-\u2079\u2150-\u215f\u2189"
_CURRENCY = r"\\?[$€£¥] ?"
_DIGITS = rf"(?:(?<![\w.,)])\.)?[0-9](?:(?:{_SEPARATOR}|_)(?=[0-9])|[0-9.,])*+"
_NUMBER = (
    rf"(?:(?P<sign>(?<![\w)\]}}+\-%°$€£¥])[+-])?(?:{_CURRENCY})?|(?<![0-9])(?<![0-9] ){_CURRENCY}(?P<inner>[+-]))"
    rf"(?P<digits>{_DIGITS})(?:(?<=[0-9])[eE](?P<exponent>[+-]?[0-9]+))?"
)
_FRACTION = (
    rf"\\[dtc]?frac *(?:\{{[^{{}}]*\}}|[0-9]) *(?:\{{[^{{}}]*\}}|[0-9])"
    rf"|(?:{_DIGITS}{_SPACE}+)?{_DIGITS}{_SPACE}*[/\u2044\u2215]{_SPACE}*{_DIGITS}"
    rf"|{_DIGITS}{_SPACE}*[{_POWERS_AND_PARTS}]"
)
_ONE = re.compile(_NUMBER)
_ANYWHERE = re.compile(rf"(?P<fraction>[+-]?(?:{_CURRENCY})?(?:{_FRACTION}))|{_NUMBER}")
_MARKED = re.compile(rf"{MARKER}[ \t]*{_NUMBER}")
_WELL_FORMED = re.compile(
    rf"(?:[0-9]+|[1-9][0-9]{{0,2}}(?P<between>{_SEPARATOR})[0-9]{{3}}(?:(?P=between)[0-9]{{3}})*)(?:\.[0-9]+)?|\.[0-9]+"
)
_SEPARATORS = re.compile(_SEPARATOR)
_NEXT = rf"[+-]?(?:{_CURRENCY})?[+-]?(?:\.?[0-9]|\\[dtc]?frac|[{_POWERS_AND_PARTS}])"
_PERCENT = rf"(?:{_SPACE}*\\?[%‰°$€£¥])?"
_OPERATOR = (
    r"[-+*/^=~,;&|'_\u00b7\u00d7\u00f7\u2026\u2044\u2215]|\.{2,}|\\(?:times|cdot|div|pm)|[xX]|and|by|(?:out )?of"
)
_GOES_ON = re.compile(
    rf"{_SPACE}*[{_POWERS_AND_PARTS}]|{_SPACE}+{_NEXT}|:[0-9]"
    rf"|{_PERCENT}{_SPACE}*(?:{_OPERATOR}){_SPACE}*[(\[{{]*{_NEXT}"
    rf"|{_PERCENT}(?:{_SPACE}*[A-Za-z]+)?{_SPACE}*(?:-|(?<![A-Za-z])(?:to|or)){_SPACE}*{_NEXT}"
)
_MAY_GO_ON = re.compile(r"(?:[^\w\n]|_)*+(?:[A-Za-z]++(?:[^\w\n]|_)*+){0,3}")
_SENTENCE_ENDED = re.compile(r"[.!?]\s")
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
    if found is None or _GOES_ON.match(text, _end(found)):
        return None
    return _canonical(found)


def flexible_answer(text: str) -> str | None:
    """Return the canonical last number of the text, or ``None``."""
    answer = None
    for found in _ANYWHERE.finditer(_plain(text)):
        if found["fraction"] is None:
            answer = _canonical(found) or answer
    return answer


def canonical_number(text: str) -> str | None:
    """Return the one number that ``text`` is (``"1,234.50"`` -> ``"1234.5"``), space around it aside, or ``None``."""
    found = _ONE.fullmatch(_plain(text.strip()))
    return _canonical(found) if found else None


def gold_answer(solution: str) -> str | None:
    """Return the canonical number that stands alone behind the last ``####`` of a reference solution, or ``None``.

    Unlike a model's answer, which may go on with a unit or a remark, a reference is one number and nothing else.
    """
    _, marker, after = solution.rpartition(MARKER)
    return canonical_number(after) if marker else None


def _compare(answer: str | None, gold: str) -> float | None:
    return None if answer is None else float(Decimal(answer) == Decimal(gold))


def strict_answer_is_complete(text: str) -> bool:
    """Return True where no further text without a new marker could change what strict reads from ``text``.

    The line or the sentence of the number has ended, or more than three words stand behind it, so that no longer
    number, fraction, range or expression can come; and no bare ``####`` stands at the end.
    """
    text = _plain(text)
    found = _last(_MARKED.finditer(text))
    if found is None or _canonical(found) is None:
        return False
    rest = text[_end(found) :]
    open_ended = _MAY_GO_ON.fullmatch(rest) and not _SENTENCE_ENDED.match(rest)
    return not open_ended and not _MARKER_AT_END.search(rest)


def _plain(text: str) -> str:
    """ASCII digits, signs and apostrophes for their variants; same length."""
    return text.translate(_ASCII)


def _last(matches: Iterator[re.Match[str]]) -> re.Match[str] | None:
    """The last of ``matches``, none but it kept in memory."""
    tail = deque(matches, maxlen=1)
    return tail[0] if tail else None


def _end(found: re.Match[str]) -> int:
    """Where the number ends, without the full stops and commas behind it."""
    return found.end() if found["exponent"] else found.start("digits") + len(found["digits"].rstrip(".,"))


def _canonical(found: re.Match[str]) -> str | None:
    """The canonical form of one match of ``_NUMBER``, or ``None`` where the run of digits is malformed."""
    digits, exponent = found["digits"].rstrip(".,"), found["exponent"] or "0"
    if not _WELL_FORMED.fullmatch(digits) or len(exponent.lstrip("+-")) > _MAX_EXPONENT_DIGITS:
        return None
    sign = "-" if "-" in (found["sign"], found["inner"]) else ""
    value = format(Decimal(f"{sign}{_SEPARATORS.sub('', digits)}e{exponent}"), "f")
    if "." in value:
        value = value.rstrip("0").rstrip(".")
    return "0" if value == "-0" else value
