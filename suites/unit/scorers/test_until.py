"""Texts that end an answer: what is cut, and how a measurement key holds them."""

from __future__ import annotations

import pytest

from harness.scorers.until import cut, holds, until_key, until_of

pytestmark = pytest.mark.unit


def test_a_text_is_cut_at_what_ends_it():
    assert cut("a\n\nb", ("\n\n", "a")) == ""
    assert cut("cab", ("ab", "ca")) == "c"  # one after the other, as lm-eval does
    assert cut("abc", ("", "x")) == "abc"
    assert holds("abc", ("", "bc")) and not holds("abc", ("", "x"))


def test_a_key_holds_them_only_where_there_are_some():
    assert until_key(()) == {} and until_of({}) == ()
    assert until_of(until_key(("\n\n", "\u00fc"))) == ("\n\n", "\u00fc")


@pytest.mark.parametrize("stored", ['"a"', "[1]", "{}", "["])
def test_a_damaged_key_is_refused(stored):
    with pytest.raises(ValueError):
        until_of({"until": stored})
