"""The order in which an evaluation takes its items."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.runs.item_order import choice_order

pytestmark = pytest.mark.unit
KEYS = st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=12)


@given(KEYS, KEYS, st.integers(0, 9))
def test_a_part_has_the_order_of_the_whole_however_it_is_given(part: list[str], more: list[str], seed: int) -> None:
    whole = choice_order({*part, *more}, seed)
    assert choice_order(reversed(part), seed) == tuple(key for key in whole if key in part)


def test_another_seed_gives_another_order() -> None:
    keys = [str(number) for number in range(20)]
    assert len({choice_order(keys, seed) for seed in range(5)}) == 5
