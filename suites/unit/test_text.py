"""Words for messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.text import brief, named, nearest, number_text, signed

pytestmark = pytest.mark.unit


def test_the_nearest_word_or_all_of_them() -> None:
    assert nearest("margn", ["margin", "alpha"]) == "did you mean 'margin'?"
    assert nearest("zzz", iter(["margin", "alpha"])) == "known: margin, alpha"


def test_names_beyond_a_few_are_counted() -> None:
    assert named(["c", "a", "b"]) == "a, b, c"
    assert named("edcba") == "a, b, c and 2 more"


@given(st.floats(allow_nan=False))
def test_a_number_reads_back_exactly(value: float) -> None:
    assert float(number_text(value)) == value
    assert number_text(0.05) == "0.05" and number_text(0.0) == "0"


class _Mute(ValueError):
    def __str__(self) -> str:
        raise RecursionError


def test_an_error_is_one_line() -> None:
    assert brief(ValueError("a\n  b")) == "ValueError: a b"
    assert brief(KeyError()) == "KeyError" == brief(KeyError(), 3)
    assert brief(ValueError("x" * 200)) == f"ValueError: {'x' * 160} ..."
    assert brief(ValueError("x" * 160), 160) == f"ValueError: {'x' * 160}"
    assert brief(_Mute()) == "_Mute"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (2.416, "+2.42"), (-8.72, "-8.72"), (0, "+0.00"), (-0.02318, "-0.0232"), (1.95e8, "+195,000,000")],
)
def test_signed_numbers_have_the_digits_they_need(value: float | None, text: str) -> None:
    assert signed(value) == text
