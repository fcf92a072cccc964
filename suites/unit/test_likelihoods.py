"""The text of a record of scored continuations: it comes back as it was written, and nothing else is read as one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.likelihoods import Scored, read, written

pytestmark = pytest.mark.unit

REQUESTS = st.builds(
    Scored,
    st.integers(1, 4096),
    st.integers(1, 4096),
    st.none() | st.floats(-1e6, 0).map(lambda x: float(f"{x:.9g}")),
    st.booleans(),
)


@given(st.lists(REQUESTS, min_size=1, max_size=4))
def test_what_is_written_is_read(requests: list[Scored]) -> None:
    assert read(written(requests)) == tuple(requests)


@pytest.mark.parametrize("nats", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_value(nats: float) -> None:
    (found,) = read(written([Scored(1, 2, nats, False)]))
    assert found.nats is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "#### 72", "[]", "{}", "7", "null", "[[1,2,-3.0]]", '[[1,2,"-3",true]]', "[[1,2,true,true]]"),
        *("[[0,2,-3.0,true]]", "[[1,0,-3.0,true]]", "[[1,2.0,-3.0,true]]", "[[1,2,-3.0,1]]", "[[true,2,-3.0,true]]"),
        *("[[1,2,NaN,true]]", "[[1,2,-Infinity,true]]", "[" * 5000),
    ],
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text)


def test_the_last_token_is_not_fed() -> None:
    assert Scored(3, 2, -1.0, True).fed == 4
