"""Words for messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.text import named, nearest, number_text

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
