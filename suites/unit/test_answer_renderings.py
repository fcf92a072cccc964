"""A number in any documented rendering is read as that number; any other rendering is none, never a piece of it."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.answers import canonical_number, flexible_answer, gold_answer, strict_answer, strict_answer_is_complete

pytestmark = pytest.mark.unit

MINUS = "-\u02d7\u2010\u2011\u2012\u2013\u207b\u2212\u2796\ufe63\uff0d"
SEPARATORS = (",", "{,}", "\\,", ",\\!", "'", "\u2019", "\u00a0", "\u2007", "\u2009", "\u200a", "\u202f", "\u2060")
CURRENCIES = ("", "$", "\\$", "\u20ac", "\u00a3", "\u00a5", "\uff04")
UNITS = ("", ".", " dollars", "%", " km.", "\nSo it is done.", " (rounded)", " - that is all")
SECOND = st.integers(0, 999).map(str)
WHOLE = st.integers(0, 10**9)


def grouped(value: int, separator: str) -> str:
    return f"{value:,}".replace(",", separator)


@settings(deadline=None)
@given(
    WHOLE,
    st.sampled_from(("", "+", *MINUS)),
    st.sampled_from(("", *SEPARATORS)),
    st.sampled_from(CURRENCIES),
    st.sampled_from(("", ".5", ".250", ".0")),
    st.sampled_from(UNITS),
)
def test_documented_renderings_are_their_number(
    whole: int, sign: str, separator: str, currency: str, fraction: str, unit: str
) -> None:
    digits = grouped(whole, separator) + fraction
    value = Decimal(f"{whole}{fraction}") * (-1 if sign in tuple(MINUS) else 1)
    for number in (f"{sign}{currency}{digits}", f"{currency}{sign}{digits}" if currency else f"{sign}{digits}"):
        for answer in (
            strict_answer(f"#### {number}{unit}"),
            flexible_answer(f"3 and {number}{unit}"),
            canonical_number(number),
            gold_answer(f"2 + 3\n#### {number}"),
        ):
            assert answer is not None, number
            assert Decimal(answer) == value


NOT_ONE_NUMBER = st.one_of(
    st.builds("{}{}{}".format, SECOND, st.sampled_from((" / ", "/", "\u2044", " \u2215 ")), SECOND),
    st.builds("{} {}/{}".format, SECOND, SECOND, SECOND),
    st.builds("\\{}{{{}}}{{{}}}".format, st.sampled_from(("frac", "dfrac", "tfrac")), SECOND, SECOND),
    st.builds("{}{}".format, SECOND, st.sampled_from("\u00bd\u00be\u2153\u00b2\u2075")),
    st.builds("{} {}".format, SECOND, st.sampled_from("\u00bd\u00bc")),
    st.builds("{}{}{:02}".format, SECOND, st.sampled_from([s for s in SEPARATORS if s != ","]), st.integers(0, 99)),
    st.builds("1{}{:03}{}{:03}".format, st.just(","), st.integers(0, 999), st.just("'"), st.integers(0, 999)),
    st.builds("{}_{}".format, SECOND, SECOND),
)
TWO_NUMBERS = st.builds(
    "{}{}{}{}".format,
    SECOND,
    st.sampled_from(("", "%", "\\%")),
    st.sampled_from(("-", " - ", "\u2013", " to ", " or ", " x ", " * ", ", ", " and ", " of ", " \\times ")),
    SECOND,
)


@settings(deadline=None)
@given(NOT_ONE_NUMBER)
def test_other_renderings_are_none_and_never_a_piece(written: str) -> None:
    assert strict_answer(f"#### {written}") is None
    assert canonical_number(written) is None
    assert gold_answer(f"#### {written}") is None
    assert flexible_answer(f"It is {written}") is None
    assert flexible_answer(f"7 or so. It is {written} in all") == "7"


@settings(deadline=None)
@given(st.one_of(TWO_NUMBERS, st.builds("{} {}".format, SECOND, SECOND)))
def test_two_numbers_are_no_strict_answer_and_no_gold(written: str) -> None:
    assert strict_answer(f"#### {written}") is None
    assert gold_answer(f"#### {written}") is None
    assert not (flexible_answer(written) or "").startswith("-")


@settings(deadline=None)
@given(st.one_of(NOT_ONE_NUMBER, TWO_NUMBERS, WHOLE.map("{:,}".format)), st.data())
def test_a_complete_answer_stays(written: str, data: st.DataObject) -> None:
    text = f"#### {written} in all.\nDone"
    cut = data.draw(st.integers(0, len(text)))
    if strict_answer_is_complete(text[:cut]):
        assert strict_answer(text[:cut]) == strict_answer(text)


def test_every_hyphen_and_minus_of_unicode_is_a_sign() -> None:
    names = ("HYPHEN", "NON-BREAKING HYPHEN", "HYPHEN-MINUS", "MINUS SIGN", "FIGURE DASH", "EN DASH")
    named = {
        unicodedata.lookup(prefix + name)
        for name in names
        for prefix in ("", "FULLWIDTH ", "SMALL ", "HEAVY ")
        if _known(prefix + name)
    }
    assert len(named) == 10 - 1
    for sign in named | set(MINUS):
        assert strict_answer(f"#### {sign}5") == strict_answer(f"#### {sign}$5") == "-5", unicodedata.name(sign)


def _known(name: str) -> bool:
    try:
        return bool(unicodedata.lookup(name))
    except KeyError:
        return False


@pytest.mark.parametrize(
    "written", ["20%-25%", "20%\u201325%", "20\\%-25\\%", "10\u20ac-25\u20ac", "(20)-25", "20\u00b0-25\u00b0"]
)
def test_a_range_holds_no_negative_number(written: str) -> None:
    assert flexible_answer(written) == "25"
    assert strict_answer(f"#### {written}") is None
